"""Whole pages: PAGE and ALTO XML, their images, and the lines cut out of them."""
