"""Training with Lightning; nothing outside this folder knows it."""
