"""nnUNetTrainerTestbed: the paper's uniform framework as an nnU-Net trainer, for any network."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.configuration import default_num_processes
from nnunetv2.paths import nnUNet_raw
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import distributed, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_tpmamba.config import Testbed
from nnunetv2_tpmamba.data.folders import find_model
from nnunetv2_tpmamba.data.orientation import describe_ensembling, describe_orientations
from nnunetv2_tpmamba.data.planned_data import PlannedData
from nnunetv2_tpmamba.data.plans import derive_plans
from nnunetv2_tpmamba.data.preprocessing import ensure_preprocessed
from nnunetv2_tpmamba.data.readers import orientation_of_folds
from nnunetv2_tpmamba.data.splits import check_fold, folder_of_split

from .augmentation import with_noise_in_hu
from .optimization import build_optimizer
from .preemption import nnUNetTrainerPreemptible
from .row import Row


class nnUNetTrainerTestbed(nnUNetTrainerPreemptible):
    """Train any network on the paper's terms: 96 mm cubes at 1 mm, one augmentation, one optimiser, one loss.

    Works on the plans nnU-Net made: what differs is derived from a copy of them, and data at the derived spacing are
    made when they are missing. A row of the paper's tables is a subclass with a docstring and :meth:`build_network`;
    the other hooks have defaults. A variant is a subclass with another ``testbed``.

    Source: Wang et al., MICCAI 2024, section 2.3.

    Raises:
        ValueError: a 2D or cascade configuration, a patch size that the network cannot take, or no network.
    """

    testbed = Testbed()
    needs = "a GPU"
    """What a user must have to train it, as the list of trainers says it."""
    row: Row | None = None
    """What the paper's tables say of it; a variant that is in no table inherits another's, which is not its own."""
    deep_supervision = False
    """Whether the network trains with an output for each resolution; :meth:`build_network` always builds them all."""

    preprocessed_dataset_folder_base: str

    # what a row of the paper's tables says

    @classmethod
    def build_network(cls, input_channels: int, num_classes: int, patch_size: tuple[int, ...]) -> nn.Module:
        """The network with random weights, all of its heads included; it reads no file.

        Args:
            input_channels: of the volume.
            num_classes: maps to predict, background included.
            patch_size: voxels, ``(D, H, W)``.
        """
        raise NotImplementedError

    @classmethod
    def check_installed(cls) -> None:
        """Raise ``ImportError``, with what to install, if a package that the network needs is missing."""

    @classmethod
    def find_pretrained(cls) -> None:
        """Raise ``OSError``, with how to get it, if a pretrained network's file is needed and not on this machine."""

    @classmethod
    def check_patch_size(cls, patch_size: tuple[int, ...]) -> None:
        """Raise ``ValueError``, with sizes that are good, for a patch that the network cannot take."""

    @classmethod
    def plan_architecture(cls) -> dict[str, Any] | None:
        """Plan the entry ``architecture`` of the derived plans; None keeps that of the stock plans.

        A network whose sizes are planned needs it, and so does deep supervision, whose scales nnU-Net reads there.
        """
        return None

    @classmethod
    def build_from_plans(cls, input_channels: int, num_classes: int, settings: dict[str, Any]) -> nn.Module:
        """Build the network for a configuration of the derived plans, of which most networks need the patch size only.

        Args:
            input_channels, num_classes: see :meth:`build_network`.
            settings: the configuration, with ``patch_size`` and ``architecture``.
        """
        return cls.build_network(input_channels, num_classes, tuple(settings["patch_size"]))

    @classmethod
    def toggle_deep_supervision(cls, network: nn.Module, enabled: bool) -> None:
        """Let the network return the outputs of all resolutions, or the finest alone."""
        if cls.deep_supervision:
            network.get_submodule("decoder").deep_supervision = enabled  # type: ignore[assignment]

    def read_pretrained(self) -> Any:
        """Find, read and check a pretrained network's file; called before anything that takes long."""

    def load_pretrained(self, pretrained: Any) -> None:
        """Put what :meth:`read_pretrained` returned into the network that nnU-Net has built."""

    # what nnU-Net calls

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - the host's signature
    ) -> None:
        if next(cls for cls in type(self).mro() if "build_network" in vars(cls)) is nnUNetTrainerTestbed:
            raise ValueError(
                f"{type(self).__name__} has no network; give it a class method "
                "build_network(input_channels, num_classes, patch_size) that returns one"
            )
        self.check_installed()
        self.check_patch_size(self.testbed.patch_size)
        self.orientation = orientation_of_folds(
            plans, find_model(plans, type(self).__name__, configuration), self.testbed.orientation
        )
        self.stock_reader = plans.get("image_reader_writer", "")
        num_gpus = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
        plans = derive_plans(
            plans,
            configuration,
            dataset_json,
            spacing=self.testbed.spacing,
            patch_size=self.testbed.patch_size,
            hu_window=self.testbed.hu_window,
            orientation=self.orientation,
            batch_size=self.testbed.batch_size * num_gpus,
            architecture=self.plan_architecture(),
        )
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = self.testbed.initial_lr
        self.weight_decay = self.testbed.weight_decay
        self.num_epochs = self.testbed.num_epochs
        self.num_iterations_per_epoch = self.testbed.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = self.testbed.num_val_iterations_per_epoch
        self.save_every = self.testbed.save_every
        self.enable_deep_supervision = self.deep_supervision
        # with one patch per batch nnU-Net's own rule, "the last third of the batch", would never choose foreground
        self.probabilistic_oversampling = True
        self.oversample_foreground_percent = self.testbed.oversample_foreground

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
        network = cls.build_from_plans(num_input_channels, num_output_channels, configuration_manager.configuration)
        cls.toggle_deep_supervision(network, enable_deep_supervision)
        return network

    def initialize(self, pretrained: bool = True) -> None:
        """Build the network and what trains it, and make the derived data if they are missing.

        Args:
            pretrained: read and load pretrained weights; not needed when a checkpoint follows.
        """
        with self.ending_at_once("during preparation; continue with --c"):
            # first, so that a missing file is known before hours of preprocessing
            weights = self.read_pretrained() if pretrained else None
            self.preprocess()
            if self.is_ddp:  # compiling in the pieces that suit DDP fails on recomputed blocks in some torch versions
                torch._dynamo.config.optimize_ddp = False
            torch._dynamo.config.cache_size_limit = 64  # each kind of block is compiled for training and for prediction
            super().initialize()
            if weights is not None:
                self.load_pretrained(weights)
        parameters = list(self.bare_network().parameters())
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        total = sum(p.numel() for p in parameters)
        self.print_to_log_file(f"Parameters: {total / 1e6:.1f} M, of which {trained / 1e6:.1f} M are trained")

    def preprocess(self) -> None:
        """Make the data at the derived spacing, unless they are there and up to date.

        Raises:
            ValueError: the fold names cases that there are not; nothing was made.
        """
        raw = nnUNet_raw.get()
        data = PlannedData(
            self.plans_manager.plans,
            self.configuration_name,
            self.dataset_json,
            raw_folder=None if raw is None else Path(raw, self.plans_manager.dataset_name),
            preprocessed_folder=Path(self.preprocessed_dataset_folder_base),
        )
        if cases := data.cases():  # else making the data says what is absent
            check_fold(data.preprocessed_folder, self.fold, cases, data.label_ending)
        num_processes = min(default_num_processes, os.cpu_count() or 1)
        ensure_preprocessed(data, num_processes=num_processes, log=self.print_to_log_file)
        self.print_to_log_file(describe_orientations(data, as_before=self.orientation != self.testbed.orientation))

    def bare_network(self) -> Any:
        """The network without the wrappers of DDP and torch.compile."""
        network: Any = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """AdamW on the parameters that train, and nnU-Net's poly schedule."""
        optimizer = build_optimizer(self.bare_network(), self.initial_lr, self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """nnU-Net's augmentation with noise of nnU-Net's strength in HU."""
        schemes = self.configuration_manager.normalization_schemes
        scale = [self.testbed.ct_noise_scale if scheme == "CTNormalization" else 1.0 for scheme in schemes]
        return with_noise_in_hu(super().get_training_transforms(*args, **kwargs), scale)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:  # noqa: N802
        *others, mirror_axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if not self.testbed.mirroring:
            mirror_axes = self.inference_allowed_mirroring_axes = None
        return *others, mirror_axes

    def do_split(self) -> tuple[list[str], list[str]]:
        with folder_of_split(Path(self.preprocessed_dataset_folder_base), self.print_to_log_file) as folder:
            reader = copy.copy(self)  # nnU-Net takes the folder of the split from the trainer; ours stays as it is
            reader.preprocessed_dataset_folder_base = str(folder)
            return super(nnUNetTrainerTestbed, reader).do_split()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        if save_probabilities:
            self.print_to_log_file(describe_ensembling(self.plans_manager.plans, self.stock_reader))
        super().perform_actual_validation(save_probabilities)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        self.toggle_deep_supervision(self.bare_network(), enabled)

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        with self.ending_at_once("during preparation; continue with --c"):
            if isinstance(filename_or_checkpoint, str):
                self.check_origin(filename_or_checkpoint)
            if not self.was_initialized:
                self.initialize(pretrained=False)
            super().load_checkpoint(filename_or_checkpoint)

    def _set_batch_size_and_oversample(self) -> None:
        self.batch_size = self.testbed.batch_size  # per GPU; sampling is probabilistic, so every rank does the same
