"""From a checkpoint of HTR-ConvText to something that runs: the network, ONNX, precision, engines, validation."""
