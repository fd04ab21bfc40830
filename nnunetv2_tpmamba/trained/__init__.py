"""What a finished training left: checkpoints, and the file a model is exported to."""
