"""Plans of TensorRT and TensorRT-RTX on NVIDIA GPUs."""
