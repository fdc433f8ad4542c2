"""The network that reads a line, as it runs after training (the textual context module is not part of it).

Tensor names end in their axes: N batch, C channels, H height, W width, L length in tokens, T frames of the output,
P patches, D embedding, Q the four positions inside a patch.
"""
