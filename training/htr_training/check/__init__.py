"""Checking a data set before training."""
