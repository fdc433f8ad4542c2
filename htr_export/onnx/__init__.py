"""From the network to one self-contained ONNX file that is proven equal to it."""
