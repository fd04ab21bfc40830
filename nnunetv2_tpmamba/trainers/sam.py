"""nnUNetTrainerSAM: the testbed for networks with SAM's encoder, which reads SAM's file and may recompute blocks."""

from pathlib import Path

import torch
from torch import Tensor

from nnunetv2_tpmamba.config import TPMambaConfig
from nnunetv2_tpmamba.data.training_log import environment_line
from nnunetv2_tpmamba.files import sha256

from .memory import decide_checkpointing, free_bytes
from .testbed import nnUNetTrainerTestbed


class nnUNetTrainerSAM(nnUNetTrainerTestbed):
    """The testbed for a network around SAM's encoder; ``config`` has the network's numbers.

    The network has ``load_sam``, which puts SAM's weights into its encoder, and an attribute ``checkpointing``, which
    makes the backward pass compute the encoder's blocks again. A variant is a subclass with another ``config``.
    """

    config = TPMambaConfig()
    needs = "a GPU, SAM's weights"
    advice_on_memory = (
        "train a subclass with checkpointing=True in its config, or with in_plane_upsample=1, which is the smaller "
        "nnUNetTrainerTPMamba_grid6 for nnUNetTrainerTPMamba"
    )
    advice_with_checkpointing = (
        "train a subclass with in_plane_upsample=1 in its config, whose slices have a quarter of the tokens (for "
        "nnUNetTrainerTPMamba that is nnUNetTrainerTPMamba_grid6), or one with a smaller patch_size in its testbed"
    )
    """What to do when a training does not fit although blocks are recomputed."""

    @classmethod
    def check_patch_size(cls, patch_size: tuple[int, ...]) -> None:
        from nnunetv2_tpmamba.networks.tpmamba import check_patch_size

        check_patch_size(patch_size, cls.config.token_size)

    @classmethod
    def find_pretrained(cls) -> None:
        if cls.config.pretrained:
            from nnunetv2_tpmamba.networks.sam.download import find_sam_checkpoint
            from nnunetv2_tpmamba.networks.sam.models import model_of

            find_sam_checkpoint(model_of(cls.config), download=False)

    def read_pretrained(self) -> tuple[Path, dict[str, Tensor]] | None:
        """Find SAM's file and read its tensors; return None if the network is trained from random weights.

        Raises:
            OSError: there is no file, and none could be downloaded.
            ValueError: the file does not hold a complete encoder of the config's sizes.
        """
        if not self.config.pretrained:
            return None
        from nnunetv2_tpmamba.networks.sam.download import find_sam_checkpoint
        from nnunetv2_tpmamba.networks.sam.models import model_of
        from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint

        file = find_sam_checkpoint(model_of(self.config))
        return file, read_sam_checkpoint(file, self.config)

    def load_pretrained(self, pretrained: tuple[Path, dict[str, Tensor]]) -> None:
        file, weights = pretrained
        self.bare_network().load_sam(weights)
        self.print_to_log_file(f"SAM weights: {file}")
        self.print_to_log_file(environment_line({"encoder": file.name, "encoder_sha256": sha256(file)}))

    def initialize(self, pretrained: bool = True) -> None:
        from nnunetv2_tpmamba.networks.ops.implementations import implementation_for

        super().initialize(pretrained)
        scan = implementation_for(self.device.type)
        self.print_to_log_file(f"Selective scan: {scan.name}" + (f" ({scan.note})" if scan.note else ""))

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        self.decide_checkpointing()
        super().on_train_start()

    def decide_checkpointing(self) -> None:
        """Recompute blocks as configured, or else where the free memory asks for it."""
        network = self.bare_network()
        decision = f"{'on' if network.checkpointing else 'off'}, as configured"
        if self.config.checkpointing is None:
            shape = (self.batch_size, self.num_input_channels, *self.configuration_manager.patch_size)
            autocast = torch.float16 if self.device.type == "cuda" else None  # as nnU-Net trains
            free, advice = free_bytes(self.device), self.advice_with_checkpointing
            decision = decide_checkpointing(network, shape, autocast, free, advice)
        self.print_to_log_file(f"Activation checkpointing: {decision}")
