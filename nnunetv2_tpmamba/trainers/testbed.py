"""nnUNetTrainerTPMamba: nnU-Net's trainer with the paper's network, data and optimiser."""

import os
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from nnunetv2.configuration import default_num_processes
from nnunetv2.paths import nnUNet_raw
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import distributed, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_tpmamba.config import TPMambaConfig
from nnunetv2_tpmamba.data.plans import derive_plans
from nnunetv2_tpmamba.data.preprocessing import ensure_preprocessed
from nnunetv2_tpmamba.data.splits import folder_of_split
from nnunetv2_tpmamba.files import unwritten, whole_or_absent
from nnunetv2_tpmamba.networks.ops.implementations import implementation_for
from nnunetv2_tpmamba.networks.sam.download import find_sam_checkpoint
from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint
from nnunetv2_tpmamba.networks.tpmamba import TPMamba, check_patch_size

from .augmentation import ScaledGaussianNoise
from .memory import decide_checkpointing, free_bytes, peak_bytes
from .optimization import WarmupPolyLR, parameter_groups


class nnUNetTrainerTPMamba(nnUNetTrainer):
    """The paper: SAM ViT-B frozen, LoRA, tri-plane Mamba adapters and decoder trained, on 96 mm cubes at 1 mm.

    Works on the plans nnU-Net made: what differs is derived from a copy of them (see :mod:`.plans`), and data at the
    derived spacing are made when they are missing (see :mod:`.preprocessing`). A variant is a subclass with another
    ``config``.

    Source: Wang et al., MICCAI 2024, section 2.3.

    Raises:
        ValueError: a 2D or cascade configuration; a variant whose patch size its tokens do not fill.
    """

    config = TPMambaConfig()
    preprocessed_dataset_folder_base: str
    _best_ema: float | None

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - the host's signature
    ) -> None:
        check_patch_size(self.config.patch_size, self.config.token_size)
        num_gpus = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
        plans = derive_plans(
            plans,
            configuration,
            dataset_json,
            spacing=self.config.spacing,
            patch_size=self.config.patch_size,
            hu_window=self.config.hu_window,
            batch_size=self.config.batch_size * num_gpus,
        )
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = self.config.initial_lr
        self.weight_decay = self.config.weight_decay
        self.num_epochs = self.config.num_epochs
        self.num_iterations_per_epoch = self.config.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = self.config.num_val_iterations_per_epoch
        self.enable_deep_supervision = False
        # with one patch per batch nnU-Net's own rule, "the last third of the batch", would never choose foreground
        self.probabilistic_oversampling = True
        self.oversample_foreground_percent = self.config.oversample_foreground

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        """The network with random weights; nnU-Net calls this for prediction too, so it reads no file."""
        return TPMamba(num_input_channels, num_output_channels, cls.config)

    def initialize(self, load_sam: bool = True) -> None:
        """Build the network and what trains it, and make the derived data if they are missing.

        Args:
            load_sam: put SAM's weights into a pretrained variant; not needed when a checkpoint follows.
        """
        # first, so that a missing file is known before hours of preprocessing
        sam_file = find_sam_checkpoint() if self.config.pretrained and load_sam else None
        sam = None if sam_file is None else read_sam_checkpoint(sam_file)
        self.preprocess()
        if self.is_ddp:  # compiling for it in pieces fails on recomputed blocks in some versions of torch
            torch._dynamo.config.optimize_ddp = False
        super().initialize()
        network = self.bare_network()
        if sam is not None:
            network.load_sam(sam)
            self.print_to_log_file(f"SAM weights: {sam_file}")
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        total = sum(p.numel() for p in network.parameters())
        self.print_to_log_file(f"Parameters: {total / 1e6:.1f} M, of which {trained / 1e6:.1f} M are trained")
        scan = implementation_for(self.device.type)
        self.print_to_log_file(f"Selective scan: {scan.name}" + (f" ({scan.note})" if scan.note else ""))

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        self.decide_checkpointing()
        super().on_train_start()

    def on_train_end(self) -> None:
        super().on_train_end()
        peak = peak_bytes(self.device)
        if peak is not None:
            self.print_to_log_file(f"Peak memory: {peak / 1e9:.1f} GB")  # nnUNetv2_tpmamba compare reads this

    def decide_checkpointing(self) -> None:
        """As configured; else on where the free memory asks for it."""
        network = self.bare_network()
        decision = f"{'on' if network.checkpointing else 'off'}, as configured"
        if self.config.checkpointing is None:
            shape = (self.batch_size, self.num_input_channels, *self.configuration_manager.patch_size)
            autocast = torch.float16 if self.device.type == "cuda" else None  # as nnU-Net trains
            decision = decide_checkpointing(network, shape, autocast, free_bytes(self.device))
        self.print_to_log_file(f"Activation checkpointing: {decision}")

    def preprocess(self) -> None:
        """Make the data at the derived spacing, unless they are there and up to date."""
        raw = nnUNet_raw.get()
        ensure_preprocessed(
            self.plans_manager.plans,
            self.configuration_name,
            self.dataset_json,
            raw_folder=None if raw is None else Path(raw, self.plans_manager.dataset_name),
            preprocessed_folder=Path(self.preprocessed_dataset_folder_base),
            num_processes=min(default_num_processes, os.cpu_count() or 1),
            log=self.print_to_log_file,
        )

    def bare_network(self) -> TPMamba:
        """The network without the wrappers of DDP and torch.compile."""
        network: Any = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        return cast(TPMamba, network._orig_mod if isinstance(network, OptimizedModule) else network)

    def save_checkpoint(self, filename: str) -> None:
        """As nnU-Net, yet the former file stays until the new one is whole.

        Raises:
            RuntimeError: it cannot be written; the former file is still there.
        """
        if Path(filename).name == "checkpoint_latest.pth":
            self._save_if_best()
        if self.local_rank != 0 or self.disable_checkpointing:
            return super().save_checkpoint(filename)
        try:
            with whole_or_absent(Path(filename)) as unfinished:
                super().save_checkpoint(str(unfinished))
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            problem = unwritten(Path(filename), error)
            self._stop(f"{problem}. Earlier checkpoints are whole: make room, then continue with --c", error)

    def _save_if_best(self) -> None:
        """Before checkpoint_latest: nnU-Net writes it after, and would never write a best one lost in between."""
        ema = self.logger.get_value("ema_fg_dice", step=-1)
        if self._best_ema is None or ema > self._best_ema:
            self._best_ema = ema
            self.print_to_log_file(f"New best EMA pseudo Dice: {ema:.4f}")
            self.save_checkpoint(os.path.join(self.output_folder, "checkpoint_best.pth"))

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        if not self.was_initialized:
            self.initialize(load_sam=False)
        super().load_checkpoint(filename_or_checkpoint)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """AdamW on what trains, no weight decay on norms, biases, positions, A_log and D; nnU-Net's poly schedule."""
        optimizer = torch.optim.AdamW(parameter_groups(self.network, self.weight_decay), lr=self.initial_lr)
        return optimizer, WarmupPolyLR(optimizer, self.initial_lr, self.num_epochs, self.config.warmup_epochs)

    def train_step(self, batch: dict) -> dict:
        try:
            return self._finite(super().train_step(batch), "training", batch)
        except torch.OutOfMemoryError as error:
            self._stop(
                f"{self.device} has too little memory for this training ({str(error).splitlines()[0]}); end other "
                "processes on it, train a subclass with checkpointing=True in its config, or use the smaller "
                "nnUNetTrainerTPMamba_grid6; checkpoints are kept, so --c continues",
                error,
            )

    def validation_step(self, batch: dict) -> dict:
        return self._finite(super().validation_step(batch), "validation", batch)

    def _finite(self, result: dict, phase: str, batch: dict) -> dict:
        if not np.all(np.isfinite(result["loss"])):
            self._stop(
                f"the {phase} loss became {float(np.max(result['loss']))} in epoch {self.current_epoch} (cases "
                f"{', '.join(map(str, batch['keys']))}), so training stops here; the checkpoints in "
                f"{self.output_folder} are older. Check these cases for NaN or infinite voxels; if there are none, "
                "continue with --c from the last checkpoint, and if it happens again, train a subclass with a lower "
                "initial_lr in its config"
            )
        return result

    def _stop(self, message: str, cause: Exception | None = None) -> NoReturn:
        """End the training with a message, also in the first process's log: workers may have the screen's last word."""
        self.print_to_log_file(message)
        raise RuntimeError(message) from cause

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """nnU-Net's augmentation with noise of nnU-Net's strength in HU."""
        transforms = super().get_training_transforms(*args, **kwargs)
        schemes = self.configuration_manager.normalization_schemes
        scale = [self.config.ct_noise_scale if scheme == "CTNormalization" else 1.0 for scheme in schemes]
        for transform in transforms.transforms:
            inner = getattr(transform, "transform", None)
            if isinstance(inner, GaussianNoiseTransform):
                transform.transform = ScaledGaussianNoise(scale, inner)
        return transforms

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:  # noqa: N802
        *others, mirror_axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if not self.config.mirroring:
            mirror_axes = self.inference_allowed_mirroring_axes = None
        return *others, mirror_axes

    def do_split(self) -> tuple[list[str], list[str]]:
        folder = self.preprocessed_dataset_folder_base
        with folder_of_split(Path(folder), self.print_to_log_file) as place:
            self.preprocessed_dataset_folder_base = str(place)
            try:
                return super().do_split()
            finally:
                self.preprocessed_dataset_folder_base = folder

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """There is none: the decoder has one output."""

    def _set_batch_size_and_oversample(self) -> None:
        self.batch_size = self.config.batch_size  # per GPU; sampling is probabilistic, so every rank does the same
