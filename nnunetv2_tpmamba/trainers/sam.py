"""nnUNetTrainerSAM: the testbed for networks with SAM's encoder, which reads SAM's file and may recompute blocks."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnunetv2_tpmamba.config import TPMambaConfig
from nnunetv2_tpmamba.data.training_log import environment_line
from nnunetv2_tpmamba.files import sha256_of_tensors

from .memory import decide_checkpointing, free_bytes
from .testbed import nnUNetTrainerTestbed

if TYPE_CHECKING:
    from nnunetv2_tpmamba.networks.sam.known import Encoder

ENCODER = "encoder"
"""Where a checkpoint says which weights its encoder has: a key of ``init_args``, of which nnU-Net reads others only."""


class nnUNetTrainerSAM(nnUNetTrainerTestbed):
    """The testbed for a network around SAM's encoder; ``config`` has the network's numbers.

    The network has ``load_sam``, which puts SAM's weights into its encoder, and an attribute ``checkpointing``, which
    makes the backward pass compute the encoder's blocks again. A variant is a subclass with another ``config``.
    """

    config = TPMambaConfig()
    encoder: "Encoder | None" = None
    """Which weights the frozen encoder was given, as far as a file or a checkpoint said."""
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

    def read_pretrained(self) -> "tuple[Path, dict[str, Tensor], Encoder] | None":
        """Find SAM's file, read its tensors and say which they are; None if the network starts from random weights.

        Raises:
            OSError: there is no file, and none could be downloaded.
            ValueError: the file does not hold a complete encoder of the config's sizes.
        """
        if not self.config.pretrained:
            return None
        from nnunetv2_tpmamba.networks.sam.download import find_sam_checkpoint
        from nnunetv2_tpmamba.networks.sam.known import identify_file
        from nnunetv2_tpmamba.networks.sam.models import model_of
        from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint

        model = model_of(self.config)
        file = find_sam_checkpoint(model)
        weights = read_sam_checkpoint(file, self.config)
        return file, weights, identify_file(file, weights, model)

    def load_pretrained(self, pretrained: "tuple[Path, dict[str, Tensor], Encoder]") -> None:
        file, weights, self.encoder = pretrained
        self.bare_network().load_sam(weights)
        self.print_to_log_file(f"SAM weights: {file}")

    def initialize(self, pretrained: bool = True) -> None:
        from nnunetv2_tpmamba.networks.ops.causal_conv import why_not_numba
        from nnunetv2_tpmamba.networks.ops.implementations import implementation_for
        from nnunetv2_tpmamba.networks.precision import describe_cpu_precision

        super().initialize(pretrained)
        if self.device.type == "cpu":
            self.print_to_log_file(describe_cpu_precision())
        scan = implementation_for(self.device.type)
        self.print_to_log_file(f"Selective scan: {scan.name}" + (f" ({scan.note})" if scan.note else ""))
        if self.device.type == "cpu" and (problem := why_not_numba()):
            self.print_to_log_file(f"Convolution before the scan: PyTorch (numba not used: {problem})")

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        self.name_encoder()
        self.decide_checkpointing()
        super().on_train_start()

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        from nnunetv2_tpmamba.networks.sam.known import Encoder

        super().load_checkpoint(filename_or_checkpoint)
        checkpoint = filename_or_checkpoint
        if isinstance(checkpoint, str):
            checkpoint = torch.load(checkpoint, "cpu", mmap=True, weights_only=False)
        if said := checkpoint["init_args"].get(ENCODER):
            self.encoder = Encoder(**said)

    def name_encoder(self) -> None:
        """Log which weights the frozen encoder has, and let checkpoints say it.

        The weights themselves decide, because ``-pretrained_weights`` may have replaced those of SAM's file.
        """
        if not self.config.pretrained:
            return
        from nnunetv2_tpmamba.networks.sam.known import unknown
        from nnunetv2_tpmamba.networks.sam.models import model_of

        digest = sha256_of_tensors(self.bare_network().sam_weights())
        if self.encoder is None or self.encoder.sha256 != digest:
            self.encoder = unknown(digest, model_of(self.config))
        self.my_init_kwargs[ENCODER] = self.encoder.as_dict()
        self.print_to_log_file(f"Encoder: {self.encoder}")
        self.print_to_log_file(environment_line({"encoder": self.encoder.name, "encoder_sha256": digest}))

    def decide_checkpointing(self) -> None:
        """Recompute blocks as configured, or else where the free memory asks for it."""
        network = self.bare_network()
        decision = f"{'on' if network.checkpointing else 'off'}, as configured"
        if self.config.checkpointing is None:
            shape = (self.batch_size, self.num_input_channels, *self.configuration_manager.patch_size)
            free, advice = free_bytes(self.device), self.advice_with_checkpointing
            decision = decide_checkpointing(network, shape, self.device.type, free, advice)
        self.print_to_log_file(f"Activation checkpointing: {decision}")
