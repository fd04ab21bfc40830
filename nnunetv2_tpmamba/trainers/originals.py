"""Rows of table 1 with the optimiser of their authors, where it is a matter of a few settings.

All else stays the testbed's: data, patches of 96 x 96 x 96, batches of 1 per GPU, augmentation, loss, the number of
epochs, and the poly schedule where the authors have no other. These trainers are in no table; they answer whether a row
suffered from the testbed's optimiser.
"""

from dataclasses import replace

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from timm.scheduler import CosineLRScheduler

from .baselines import (
    nnUNetTrainerTestbed_nnUNet,
    nnUNetTrainerTestbed_SwinUNETR,
    nnUNetTrainerTestbed_UNETR,
)
from .mednext import nnUNetTrainerTestbed_MedNeXt
from .safe import nnUNetTrainerSafe
from .testbed import nnUNetTrainerTestbed
from .umamba import nnUNetTrainerTestbed_UMambaBot, nnUNetTrainerTestbed_UMambaEnc


class NnUNetsSGD(nnUNetTrainerSafe):
    """A trainer with nnU-Net's optimiser and its numbers; comes before the row among the bases."""

    testbed = replace(nnUNetTrainerTestbed.testbed, initial_lr=1e-2, weight_decay=3e-5)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """SGD with Nesterov's momentum of 0.99, and the poly schedule, as nnU-Net makes them."""
        return nnUNetTrainer.configure_optimizers(self)


class UNETRsAdamW(nnUNetTrainerSafe):
    """A trainer with the optimiser of UNETR's and Swin UNETR's authors; comes before the row among the bases."""

    testbed = replace(nnUNetTrainerTestbed.testbed, initial_lr=1e-4, weight_decay=1e-5)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, CosineLRScheduler]:
        """AdamW, whose learning rate rises from 0 over a twentieth of the epochs and falls to 0 by a cosine."""
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.initial_lr, weight_decay=self.weight_decay)
        warmup = self.num_epochs // 20  # the authors' 50 of the testbed's 1000
        return optimizer, CosineLRScheduler(optimizer, self.num_epochs - warmup, warmup_t=warmup, warmup_prefix=True)


class nnUNetTrainerTestbed_nnUNet_original(NnUNetsSGD, nnUNetTrainerTestbed_nnUNet):
    """nnUNetTrainerTestbed_nnUNet with the authors' optimiser: SGD at 1e-2, momentum 0.99, weight decay 3e-5, poly.

    The authors' are the network's kind, its deep supervision, optimiser, learning rate and schedule. The testbed's are
    the spacing and patch, for which the network is planned, the batch of 1 (theirs is at least 2), the HU window and
    the noise that is scaled to it.
    """


class nnUNetTrainerTestbed_UNETR_original(UNETRsAdamW, nnUNetTrainerTestbed_UNETR):
    """nnUNetTrainerTestbed_UNETR with the authors' optimiser: AdamW at 1e-4, weight decay 1e-5, warm-up, cosine."""


class nnUNetTrainerTestbed_SwinUNETR_original(UNETRsAdamW, nnUNetTrainerTestbed_SwinUNETR):
    """nnUNetTrainerTestbed_SwinUNETR with the authors' optimiser: AdamW at 1e-4, weight decay 1e-5, warm-up, cosine."""


class nnUNetTrainerTestbed_MedNeXt_original(nnUNetTrainerTestbed_MedNeXt):
    """nnUNetTrainerTestbed_MedNeXt with the authors' optimiser: AdamW at 1e-3, eps 1e-4, weight decay 3e-5, poly.

    The authors' patch of 128 x 128 x 128 is not part of it.
    """

    testbed = replace(nnUNetTrainerTestbed.testbed, initial_lr=1e-3, weight_decay=3e-5)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """AdamW with an eps that fp16 can hold, and the poly schedule."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.initial_lr, weight_decay=self.weight_decay, eps=1e-4
        )
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)


class nnUNetTrainerTestbed_UMambaBot_original(NnUNetsSGD, nnUNetTrainerTestbed_UMambaBot):
    """nnUNetTrainerTestbed_UMambaBot with the authors' optimiser, nnU-Net's SGD at 1e-2 with momentum 0.99.

    The authors' are the network, its deep supervision and initialisation, optimiser, learning rate, weight decay
    of 3e-5 and schedule, which they take from nnU-Net. The testbed's are the same things as in
    nnUNetTrainerTestbed_nnUNet_original.
    """


class nnUNetTrainerTestbed_UMambaEnc_original(NnUNetsSGD, nnUNetTrainerTestbed_UMambaEnc):
    """nnUNetTrainerTestbed_UMambaEnc with the authors' optimiser, nnU-Net's SGD at 1e-2 with momentum 0.99.

    What is the authors' and what the testbed's is as for nnUNetTrainerTestbed_UMambaBot_original. They also offer this
    network without autocast; here only its Mamba layers and its residual stream are in float32 under autocast.
    """
