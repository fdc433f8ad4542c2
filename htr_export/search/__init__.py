"""The search for the mix of precisions that saves most and still reads as well."""
