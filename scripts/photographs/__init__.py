"""What scripts/benchmark_images.py is made of."""
