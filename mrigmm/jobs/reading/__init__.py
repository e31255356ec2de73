"""What other commands wrote, read back: predictions, their side files, evaluations."""
