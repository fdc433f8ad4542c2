"""Cutting pages with PAGE or ALTO XML into a data set of lines."""
