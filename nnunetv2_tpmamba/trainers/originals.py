"""Rows of table 1 with the optimiser of their authors, where it is a matter of a few settings.

All else stays the testbed's: data, patches of 96 x 96 x 96, batches of 1 per GPU, augmentation, loss, and the poly
schedule over the same epochs. These trainers are in no table; they answer whether a row suffered from the testbed's
optimiser.
"""

from dataclasses import replace

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from .baselines import nnUNetTrainerTestbed_nnUNet
from .safe import nnUNetTrainerSafe
from .testbed import nnUNetTrainerTestbed


class NnUNetsSGD(nnUNetTrainerSafe):
    """A trainer with nnU-Net's optimiser and its numbers; comes before the row among the bases."""

    testbed = replace(nnUNetTrainerTestbed.testbed, initial_lr=1e-2, weight_decay=3e-5)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """SGD with Nesterov's momentum of 0.99, and the poly schedule, as nnU-Net makes them."""
        return nnUNetTrainer.configure_optimizers(self)


class nnUNetTrainerTestbed_nnUNet_original(NnUNetsSGD, nnUNetTrainerTestbed_nnUNet):
    """nnUNetTrainerTestbed_nnUNet with the authors' optimiser: SGD at 1e-2, momentum 0.99, weight decay 3e-5, poly.

    The authors' are the network's kind, its deep supervision, optimiser, learning rate and schedule. The testbed's are
    the spacing and patch, for which the network is planned, the batch of 1 (theirs is at least 2), the HU window and
    the noise that is scaled to it.
    """
