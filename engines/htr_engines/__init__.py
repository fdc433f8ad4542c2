"""Reading lines of handwriting on the device: numpy and Pillow, and one engine. No PyTorch."""
