"""The models that a training leaves: nnU-Net's checkpoints, and the file that a model is exported to."""
