"""Results of other commands, read back: predictions, their side files, evaluations."""
