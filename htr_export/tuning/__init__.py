"""The weights of the beam search, tuned on lines."""
