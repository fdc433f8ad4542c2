"""Graphs in lower precision: which nodes can bear it, and the graph that follows."""
