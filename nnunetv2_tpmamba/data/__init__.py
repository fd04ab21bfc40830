"""The training data: plans derived from nnU-Net's, cases at the testbed's spacing, and splits."""
