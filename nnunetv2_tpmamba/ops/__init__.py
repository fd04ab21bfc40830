"""Functions the network needs that PyTorch does not have."""
