"""What nnU-Net finds when ``nnUNet_extTrainer`` is this folder: the trainers, from the package they live in."""

from .. import tpmamba as variants

globals().update({name: thing for name, thing in vars(variants).items() if name.startswith("nnUNetTrainerTPMamba")})
