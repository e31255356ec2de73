"""mrigmm."""
