"""Plans for TensorRT and TensorRT-RTX from ONNX, by one code path."""
