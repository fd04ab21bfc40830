"""What an exported file says of its model: its names, its network, and which of the network's tensors are SAM's."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.file_path_utilities import convert_trainer_plans_config_to_identifier
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from nnunetv2_tpmamba.trainers.sam import nnUNetTrainerSAM

PLAIN_NAME = re.compile(r"\w[\w .+-]*")  # one part of a path
FOLD = re.compile(r"all|\d+")


@dataclass(frozen=True)
class Description:
    """The description of a model in the header of its exported file.

    Args:
        plans, dataset: the content of the model's ``plans.json`` and ``dataset.json``.
        checkpoint: name of the checkpoint's file in each fold's folder.
        mirroring: the axes along which nnU-Net may mirror in prediction.
        sam: SHA-256 of SAM's tensors, see :func:`nnunetv2_tpmamba.files.sha256_of_tensors`.
        encoder: what the checkpoint says of SAM's weights, such as their name; empty in older files and checkpoints.
    """

    plans: dict[str, Any]
    dataset: dict[str, Any]
    trainer: str
    configuration: str
    checkpoint: str
    mirroring: list[int] | None
    sam: str
    encoder: dict[str, str] = field(default_factory=dict, compare=False)

    def check_names(self, *folds: str) -> None:
        """Raise ValueError for a name that nnU-Net would not give; a name with a slash could lead to any folder."""
        if not isinstance(self.encoder, dict) or not all(isinstance(text, str) for text in self.encoder.values()):
            raise ValueError(f"its encoder {self.encoder!r} is not described by texts")
        plans = self.plans if isinstance(self.plans, dict) else {}
        names = [plans.get(key) for key in ("dataset_name", "plans_name")]
        names += [self.trainer, self.configuration, self.checkpoint]
        bad = [name for name in names if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name)]
        bad += [fold for fold in folds if not FOLD.fullmatch(fold)]
        if bad:
            raise ValueError(f"{bad[0]!r} is no name of nnU-Net's")

    @property
    def model(self) -> Path:
        """nnU-Net's folder of the model, below its results."""
        return Path(
            self.plans["dataset_name"],
            convert_trainer_plans_config_to_identifier(self.trainer, self.plans["plans_name"], self.configuration),
        )


def trainer_of(description: Description) -> type[nnUNetTrainerSAM]:
    """Find the trainer's class, as nnU-Net would.

    Only trainers of networks with SAM are accepted: their networks come from their class. Other trainers, nnU-Net's and
    the testbed's other rows, build the network that the plans describe and call functions that the plans name. An
    exported file may come from a stranger, so its plans must not choose what is called.

    Raises:
        ValueError: nnU-Net does not find the trainer, or it is not one of a network with SAM.
    """
    try:
        trainer = recursive_find_trainer_class_by_name(description.trainer)
    except RuntimeError as error:
        raise ValueError(
            f"nnU-Net does not find the trainer {description.trainer}; run "
            "`export nnUNet_extTrainer=$(nnUNetv2_tpmamba path)`, and add the folder of a trainer of your own"
        ) from error
    if not issubclass(trainer, nnUNetTrainerSAM):
        raise ValueError(
            f"{description.trainer} is no trainer of a network with SAM; use nnUNetv2_export_model_to_zip "
            "and nnUNetv2_install_pretrained_model_from_zip"
        )
    return trainer


def network_of(description: Description) -> nn.Module:
    """Build the network as nnU-Net would, without memory for its weights.

    Raises:
        ValueError: see :func:`trainer_of`; or the plans are not for this trainer.
    """
    trainer = trainer_of(description)
    try:
        plans = PlansManager(description.plans)
        configuration = plans.get_configuration(description.configuration)
        with torch.device("meta"):
            return trainer.build_network_architecture(
                plans,
                configuration,
                determine_num_input_channels(plans, configuration, description.dataset),
                plans.get_label_manager(description.dataset).num_segmentation_heads,
                enable_deep_supervision=False,
            )
    except Exception as error:  # nnU-Net does not check the plans, and a variant of the trainer may be anybody's
        raise ValueError(
            f"{description.trainer} cannot build its network from the plans ({type(error).__name__}: {error})"
        ) from error


def frozen_names(network: nn.Module) -> set[str]:
    """Names of the parameters that training leaves as SAM has them."""
    return {name for name, parameter in network.named_parameters() if not parameter.requires_grad}


def trained_names(network: nn.Module) -> dict[str, str]:
    """All other names in the state dict, each with the first name of its tensor.

    The two names differ where nnU-Net's building blocks list a tensor twice.
    """
    first: dict[int, str] = {}
    frozen = frozen_names(network)
    tensors = {name: x for name, x in network.state_dict(keep_vars=True).items() if name not in frozen}
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()}


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
