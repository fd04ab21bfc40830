"""Exported models: what a training changed, without SAM's weights, tens of MB in one safetensors file.

For each fold the file holds every tensor of the network that is not SAM's, named ``<fold>/<tensor>``. Its header holds
a JSON text (plans, dataset.json, what nnU-Net's checkpoint says of the trainer, the SHA-256 of SAM's tensors) and the
SHA-256 of that text and the tensors. Reading the file runs no code. With a SAM file of the same tensors, in Meta's
layout or timm's, the installed model predicts bit for bit what the exported one does.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from nnunetv2_tpmamba.files import sha256_of_tensors, unwritten, whole_or_absent
from nnunetv2_tpmamba.trainers.sam import ENCODER as SAID_OF_ENCODER

from .checkpoints import load_without_code
from .exported_model import Description, frozen_names, network_of, shapes, trained_names

# keys of the header; the first is an old name of an exported model, kept because files written earlier must load
TEXT, CHECKSUM = "adapter", "sha256"
ENCODER = "encoder."  # the names of SAM's tensors in the network begin so

Tensors = dict[str, Tensor]


def write_exported_model(model: Path, folds: Sequence[str], checkpoint_name: str, file: Path) -> Description:
    """Write the file of a model that nnU-Net trained.

    Args:
        model: nnU-Net's folder of the model.
        folds: the folds to export.
        checkpoint_name: name of the checkpoint's file in each fold's folder.
        file: the file to write.

    Raises:
        OSError: the file cannot be written.
        ValueError: a missing or damaged checkpoint; a model without SAM's frozen weights; folds with different SAM
            weights.
    """
    tensors: Tensors = {}
    descriptions: list[Description] = []
    plans, dataset = (json.loads((model / name).read_text()) for name in ("plans.json", "dataset.json"))
    for fold in folds:
        path = model / f"fold_{fold}" / checkpoint_name
        if not path.is_file():
            raise ValueError(f"{path} does not exist; finish this training, or choose folds with -f, a file with -chk")
        checkpoint = load_without_code(path)
        try:
            trainer, configuration = checkpoint["trainer_name"], checkpoint["init_args"]["configuration"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} does not say of which trainer and configuration it is") from error
        axes = checkpoint.get("inference_allowed_mirroring_axes")
        mirroring = None if axes is None else list(axes)
        encoder = checkpoint["init_args"].get(SAID_OF_ENCODER, {})
        description = Description(plans, dataset, trainer, configuration, checkpoint_name, mirroring, "", encoder)
        description.check_names(fold)
        network = network_of(description)
        frozen = frozen_names(network)
        if not frozen:
            raise ValueError(
                f"{description.trainer} trains all of its weights, so there is nothing to leave out; use "
                "nnUNetv2_export_model_to_zip"
            )
        weights = checkpoint["network_weights"]
        if shapes(weights) != shapes(network.state_dict()):
            raise ValueError(f"{path} does not fit {trainer}: it holds other tensors than its network has now")
        sam = sha256_of_tensors({name.removeprefix(ENCODER): weights[name] for name in frozen})
        descriptions.append(replace(description, sam=sam))
        tensors |= {f"{fold}/{name}": weights[name].contiguous() for name in set(trained_names(network).values())}
    if any(description != descriptions[0] for description in descriptions):
        raise ValueError(
            f"the folds {', '.join(folds)} of {model} do not share one SAM file; export each alone with -f"
        )
    text = json.dumps(asdict(descriptions[0]))
    content = safetensors.torch.save(tensors, {TEXT: text, CHECKSUM: sha256_of_tensors(tensors, text)})
    try:
        with whole_or_absent(file) as unfinished:
            unfinished.write_bytes(content)  # a file of safetensors' own save_file could be read by its owner only
    except OSError as error:
        raise OSError(f"{unwritten(file, error)}; nothing is left of it") from error
    return descriptions[0]


def read_exported_model(file: Path) -> tuple[Description, dict[str, Tensors]]:
    """Read what :func:`write_exported_model` wrote: the description, and the tensors of each fold.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no file that :func:`write_exported_model` wrote.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; give a file that `nnUNetv2_tpmamba export` wrote")
    try:
        with safetensors.safe_open(file, "pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is not a mapping
        if header[CHECKSUM] != sha256_of_tensors(tensors, header[TEXT]):
            raise ValueError("its content is not what it was written with")
        description = Description(**json.loads(header[TEXT]))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"{file} is no file of `nnUNetv2_tpmamba export`, or damaged ({type(error).__name__}: {error}); "
            "copy or export it again"
        ) from error
    folds: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        fold, _, rest = name.partition("/")
        folds.setdefault(fold, {})[rest] = tensor
    try:
        description.check_names(*folds)
    except ValueError as error:
        raise ValueError(f"{file} is refused: {error}") from error
    return description, folds


def install_exported_model(file: Path, sam: Tensors, results: Path, encoder: str = "the SAM file given") -> Path:
    """Make nnU-Net's model folder from an exported model and SAM's weights; the folder appears only when it is whole.

    Args:
        file: what :func:`write_exported_model` wrote.
        sam: SAM's tensors as :func:`nnunetv2_tpmamba.networks.sam.weights.read_sam_checkpoint` returns them.
        results: nnU-Net's folder of results.
        encoder: what to call these tensors in a message.

    Raises:
        FileExistsError: a model of this name exists.
        OSError: the model cannot be written.
        ValueError: other SAM weights than the model was trained with; a file that is damaged, that is not of this
            package, or whose tensors do not fit its plans.
    """
    description, folds = read_exported_model(file)
    if (given := sha256_of_tensors(sam)) != description.sam:
        raise ValueError(
            f"{file} was trained on other SAM weights: {description.encoder.get('name', 'unknown ones')}, whose "
            f"SHA-256 is {description.sam}, while that of {encoder} is {given}; set TPMAMBA_SAM_CHECKPOINT to the file "
            "it was trained with"
        )
    model = results / description.model
    if model.exists():
        raise FileExistsError(f"{model} exists; move it away, or set nnUNet_results to another folder")
    network = network_of(description)
    trained = trained_names(network)
    expected = {name: shape for name, shape in shapes(network.state_dict()).items() if name in trained.values()}
    for fold, tensors in folds.items():
        if shapes(tensors) != expected:
            raise ValueError(f"{file} does not fit {description.trainer} and its plans: fold {fold} has other tensors")
    said = {SAID_OF_ENCODER: description.encoder} if description.encoder else {}
    model.parent.mkdir(parents=True, exist_ok=True)
    try:
        with whole_or_absent(model) as unfinished:
            unfinished.mkdir()
            for name, content in (("plans.json", description.plans), ("dataset.json", description.dataset)):
                (unfinished / name).write_text(json.dumps(content, indent=4))
            for fold, tensors in folds.items():
                weights = {ENCODER + name: tensor for name, tensor in sam.items()}
                weights |= {name: tensors[first] for name, first in trained.items()}
                checkpoint = {
                    "network_weights": weights,
                    "trainer_name": description.trainer,
                    "init_args": {"configuration": description.configuration, "fold": fold} | said,
                    "inference_allowed_mirroring_axes": description.mirroring,
                }
                (unfinished / f"fold_{fold}").mkdir()
                torch.save(checkpoint, unfinished / f"fold_{fold}" / description.checkpoint)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise OSError(f"{unwritten(model, error)}; nothing is left of it") from error
    return model
