"""The parts of `scripts/benchmark_quality.py`."""
