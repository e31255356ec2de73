"""Parts of `quantify`: what it reads, and its tables."""
