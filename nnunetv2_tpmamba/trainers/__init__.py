"""nnU-Net trainers: the paper's testbed, the trainers with SAM's encoder, and the paper's method."""
