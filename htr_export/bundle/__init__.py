"""Bundles: the folder that a device reads from, with its golden lines."""
