"""Networks: `torch.nn.Module`s only."""
