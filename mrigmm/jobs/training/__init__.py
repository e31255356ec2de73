"""Parts of `train` and `train-anatomy`: settings, studies, the model card."""
