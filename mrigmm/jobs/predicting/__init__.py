"""Parts of `predict`: what segments, one study from file to file, what is finished, what failed."""
