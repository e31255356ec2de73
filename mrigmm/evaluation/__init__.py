"""Numbers about label maps, with and without a reference."""
