"""What a machine can build and run, each finding with its cure."""
