"""Rendering lines from handwriting fonts."""
