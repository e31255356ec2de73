"""Parts of `mrigmm segment`: what it was given, and its answer."""
