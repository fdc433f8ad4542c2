"""Whether an artefact still reads what its reference reads, on the user's own lines."""
