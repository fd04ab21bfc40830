"""The contract of every trainer that the plugin hands out; a new row is tested by being written.

Networks compute on the smallest patches that they take, those with SAM's encoder also in small sizes. Trainers that
share a network compute once.
"""

import copy
import io
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from support.configs import shrunk
from support.nnunet import PLUGIN
from support.plans import DATASET_JSON, stock_plans
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from nnunetv2_tpmamba.trainers.catalogue import NOT_OF_THE_NETWORK, trainers
from nnunetv2_tpmamba.trainers.memory import without_data
from nnunetv2_tpmamba.trainers.optimization import parameter_groups
from nnunetv2_tpmamba.trainers.preemption import EpochStart
from nnunetv2_tpmamba.trainers.sam import nnUNetTrainerSAM

CUBES = [(side,) * 3 for side in (16, 32, 48, 64, 96)]
WRONG = [(1, 1, 1), (17, 20, 33)]
CLASSES = 3
GRAPH_BREAKS = {"nnUNetTrainerTestbed_SwinUNETR": r"monai.*_check_input_size"}  # which asks NumPy; MONAI 1.6.1
# what a class may say without having another network; its config is compared on its own
OF_TRAINING = NOT_OF_THE_NETWORK | {"config"}


def refusal(cls, patch_size):
    """What the trainer says of a patch that its network cannot take; None if it can."""
    try:
        cls.check_patch_size(patch_size)
    except ValueError as error:
        return str(error)
    return None


def small(cls):
    """The trainer with the smallest patch that its network takes, and with few channels around SAM's encoder."""
    numbers = {"config": shrunk(cls.config)} if issubclass(cls, nnUNetTrainerSAM) else {}
    patch_size = next(cube for cube in CUBES if refusal(cls, cube) is None)
    return type(cls.__name__, (cls,), numbers | {"testbed": replace(cls.testbed, patch_size=patch_size)})


def network_of(cls):
    """What a small trainer's network follows from: the class that says how to build it, its config and its patch."""
    builder = next(c for c in cls.mro() if {name for name in vars(c) if not name.startswith("__")} - OF_TRAINING)
    return builder, getattr(cls, "config", None), cls.testbed.patch_size


ALL = {name: small(cls) for name, cls in trainers().items()}
NETWORKS = {network_of(cls): name for name, cls in reversed(ALL.items())}  # the first trainer of each
ROWS = [name for name in ALL if name in NETWORKS.values()]
SHARING = {name: NETWORKS[network_of(cls)] for name, cls in ALL.items() if name not in ROWS}


@dataclass
class Row:
    """A small trainer's class, its network after one training step, and what was seen in that step."""

    cls: type
    network: nn.Module
    shapes: list
    largest: float


@pytest.fixture(scope="module", params=ROWS)
def row(request):
    """One training step without a change of weights, which the tests of a row share."""
    cls = ALL[request.param]
    torch.manual_seed(0)
    network = cls.build_network(1, CLASSES, cls.testbed.patch_size).train()
    cls.toggle_deep_supervision(network, cls.deep_supervision)
    values = []

    def note(module, inputs, outputs):
        values.extend(float(x.detach().abs().max()) for x in tree_leaves(outputs))

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    outputs = network(image_for(cls))
    for hook in hooks:
        hook.remove()
    sum((x * torch.randn_like(x)).sum() for x in listed(outputs)).backward()
    return Row(cls, network, shapes_of(outputs), max(values))


def image_for(cls, channels=1):
    return torch.rand(1, channels, *cls.testbed.patch_size, generator=torch.Generator().manual_seed(0))


def listed(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else outputs


def shapes_of(outputs):
    """The shape of a tensor, or a list of the shapes of several."""
    return tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else [tuple(x.shape) for x in outputs]


def output_shape(cls, channels, classes, patch_size):
    """The shape of the finest output under fp16, of a network without data, which takes no memory and little time."""
    with torch.device("meta"):
        network = cls.build_network(channels, classes, patch_size)
    with FakeTensorMode(), torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        return tuple(listed(without_data(network)(torch.empty(1, channels, *patch_size)))[0].shape)


def test_what_trains_gets_a_gradient_and_what_is_frozen_gets_none(row):
    got = {name for name, p in row.network.named_parameters() if p.grad is not None}
    assert got == {name for name, p in row.network.named_parameters() if p.requires_grad}
    assert all(torch.isfinite(p.grad).all() for p in row.network.parameters() if p.grad is not None)


def test_nothing_in_a_fresh_network_overflows_fp16(row):
    assert row.largest < torch.finfo(torch.float16).max / 10


def test_outputs_have_the_scales_of_the_plans_in_both_modes(row, make):
    expected = (1, CLASSES, *row.cls.testbed.patch_size)
    if row.cls.deep_supervision:
        scales = make(row.cls, initialized=False)._get_deep_supervision_scales()
        sizes = [tuple(map(round, np.array(row.cls.testbed.patch_size) * scale)) for scale in scales]
        assert sizes[0] == row.cls.testbed.patch_size
        expected = [(1, CLASSES, *size) for size in sizes]
    assert row.shapes == expected
    row.cls.toggle_deep_supervision(row.network, row.cls.deep_supervision)
    with torch.no_grad():
        assert shapes_of(row.network.eval()(image_for(row.cls))) == expected


@torch.no_grad()
def test_it_reloads_strictly_for_prediction_and_computes_the_same(row, make):
    file = io.BytesIO()
    torch.save(row.network.state_dict(), file)
    file.seek(0)
    made = make(row.cls, initialized=False)
    again = row.cls.build_network_architecture(made.plans_manager, made.configuration_manager, 1, CLASSES, False)
    again.load_state_dict(torch.load(file))
    row.cls.toggle_deep_supervision(row.network, False)
    image = image_for(row.cls)
    before = row.network.eval()(image)
    torch.testing.assert_close(again.eval()(image), before, rtol=0, atol=0)
    assert shapes_of(before) == (1, CLASSES, *row.cls.testbed.patch_size)


def test_the_optimizer_holds_what_trains(row, make):
    made = make(row.cls, initialized=False)
    made.network = row.network
    optimizer, _ = made.configure_optimizers()
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in row.network.parameters() if p.requires_grad}


def test_weight_decay_spares_vectors_positions_and_mambas_rates(row):
    decayed = {id(p) for p in parameter_groups(row.network, 0.01)[0]["params"]}
    expected = {
        name
        for name, p in row.network.named_parameters()
        if p.requires_grad and p.ndim > 1 and not any(part in name for part in ("pos_", "position", "A_log"))
    }
    assert {name for name, p in row.network.named_parameters() if id(p) in decayed} == expected


def test_an_epoch_can_be_taken_back(row, make):
    made = make(row.cls, initialized=False)
    made.network = row.network
    optimizer, _ = made.configure_optimizers()
    before = copy.deepcopy(row.network.state_dict())
    start = EpochStart(row.network, optimizer, None)
    optimizer.step()
    for buffer in row.network.buffers():
        buffer.zero_()
    assert any(not torch.equal(x, before[name]) for name, x in row.network.state_dict().items())
    start.restore()
    assert all(torch.equal(x, before[name]) for name, x in row.network.state_dict().items())
    assert not optimizer.state


@pytest.mark.slow
def test_it_compiles_without_a_graph_break(row):
    row.cls.toggle_deep_supervision(row.network.train(), row.cls.deep_supervision)
    torch.compiler.reset()
    compiled = torch.compile(row.network, backend="aot_eager", fullgraph=True)
    breaks = GRAPH_BREAKS.get(row.cls.__name__)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=breaks) if breaks else nullcontext():
        torch.stack([x.sum() for x in listed(compiled(image_for(row.cls)))]).sum().backward()


@pytest.mark.parametrize(("channels", "classes"), [(2, 2), (3, 14), (4, 2)])
@pytest.mark.parametrize("name", ROWS)
def test_it_takes_any_number_of_channels_and_classes(name, channels, classes):
    cls = ALL[name]
    size = cls.testbed.patch_size
    assert output_shape(cls, channels, classes, size) == (1, classes, *size)


@pytest.mark.parametrize("name", [name for name in ROWS if not issubclass(ALL[name], nnUNetTrainerSAM)])
def test_it_takes_the_papers_patch(name):
    cls = trainers()[name]
    assert output_shape(cls, 1, 14, cls.testbed.patch_size) == (1, 14, *cls.testbed.patch_size)


@pytest.mark.parametrize("patch_size", WRONG, ids=str)
@pytest.mark.parametrize("name", ROWS)
def test_of_a_wrong_patch_it_names_a_good_one(name, patch_size):
    message = refusal(ALL[name], patch_size)
    assert message.startswith(f"patch size {patch_size}: ")
    good = tuple(map(int, re.search(r"set patch_size to e\.g\. \((\d+), (\d+), (\d+)\)", message).groups()))
    assert refusal(ALL[name], good) is None
    assert output_shape(ALL[name], 1, 2, good) == (1, 2, *good)


@pytest.mark.parametrize(
    ("configuration", "why"),
    [("2d", "is 2D"), ("3d_lowres", "belongs to a cascade"), ("3d_cascade_fullres", "belongs to a cascade")],
)
@pytest.mark.parametrize("name", ALL)
def test_configurations_that_it_cannot_train_are_refused(name, configuration, why):
    with pytest.raises(ValueError, match=f"configuration '{configuration}' {why}.*use 3d_fullres"):
        trainers()[name](stock_plans(), configuration, 0, DATASET_JSON, torch.device("cpu"))


@pytest.mark.parametrize("name", SHARING)
def test_a_trainer_that_shares_a_network_differs_in_numbers_or_optimizer_or_says_so(name, make):
    cls, other = trainers()[name], trainers()[SHARING[name]]
    numbers = [(t.testbed, getattr(t, "config", None), t.configure_optimizers) for t in (cls, other)]
    same = f"the same network as {SHARING[name].removeprefix('nnUNetTrainerTPMamba')}"
    assert numbers[0] != numbers[1] or same in cls.__doc__
    made = make(cls, initialized=False)
    made.network = nn.Conv3d(1, 1, 1)
    optimizer, _ = made.configure_optimizers()
    assert optimizer.defaults["lr"] == cls.testbed.initial_lr


@pytest.mark.parametrize("writer", ["nnUNetTrainerTestbed_nnUNet", "nnUNetTrainerTPMamba"])
def test_a_checkpoint_of_another_row_is_refused(make, tmp_path, writer):
    reader = "nnUNetTrainerTPMamba_grid6"  # whose tensors have the names and shapes of nnUNetTrainerTPMamba's
    made, file = make(ALL[writer]), str(tmp_path / "checkpoint_final.pth")
    made.save_checkpoint(file)
    other = make(ALL[reader], initialized=False)
    with pytest.raises(
        ValueError, match=f"{file} was written by {writer}, not by {reader}: continue with -tr {writer}"
    ):
        other.load_checkpoint(file)
    assert not other.was_initialized


def test_a_checkpoint_of_other_classes_is_refused(make, tmp_path, monkeypatch):
    """As when the data set was changed and planned again, and the training is continued; torch would name layers."""
    made, file = make(), str(tmp_path / "checkpoint_final.pth")
    made.save_checkpoint(file)
    renamed, other = make(initialized=False), make(initialized=False)
    monkeypatch.setattr(renamed, "dataset_json", made.dataset_json | {"labels": {"background": 0, "1st": 1, "2nd": 2}})
    renamed.load_checkpoint(file)
    monkeypatch.setattr(other, "dataset_json", made.dataset_json | {"labels": {"background": 0, "one": 1}})
    with pytest.raises(
        ValueError,
        match=r"trained on 1 channels and the classes one=1, two=2; dataset\.json now has 1 channels and one=1",
    ):
        other.load_checkpoint(file)
    assert not other.was_initialized


def test_pretrained_weights_of_another_network_are_refused(make, tmp_path):
    made, file = make(ALL["nnUNetTrainerTestbed_nnUNet"]), str(tmp_path / "checkpoint_final.pth")
    made.save_checkpoint(file)
    with pytest.raises(AssertionError, match=r"is missing in the pretrained .* be compatible with your network"):
        load_pretrained_weights(make(ALL["nnUNetTrainerTPMamba"]).network, file)


LOOK_UP = """
import sys
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

for name in sys.argv[1:]:
    assert recursive_find_trainer_class_by_name(name).__name__ == name
print([name for name in sys.modules if name.split(".")[0] == "monai" or name.startswith("nnunetv2_tpmamba.networks.")])
"""


def test_nnunet_finds_every_trainer_and_imports_no_network():
    environment = os.environ | {"nnUNet_extTrainer": str(PLUGIN)}
    command = [sys.executable, "-W", "ignore", "-c", LOOK_UP, *ALL]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"
