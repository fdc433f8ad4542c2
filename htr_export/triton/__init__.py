"""``htr-export triton``: a bundle as a model repository of NVIDIA Triton."""
