"""Parts of scripts/benchmark_images.py."""
