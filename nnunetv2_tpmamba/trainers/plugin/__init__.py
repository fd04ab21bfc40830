"""The folder nnU-Net searches for trainers; it holds one module and nothing else."""
