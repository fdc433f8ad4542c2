"""``htr-serve``: a bundle behind HTTP, for those without Triton."""
