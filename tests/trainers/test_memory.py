"""How much memory a step is counted to need, and what is decided by it."""

import subprocess
import sys
from dataclasses import replace
from functools import cache

import pytest
import torch

from nnunetv2_tpmamba import TPMamba
from nnunetv2_tpmamba.networks.sam import window_attention
from nnunetv2_tpmamba.trainers import memory
from nnunetv2_tpmamba.trainers.memory import decide_checkpointing, free_bytes, training_step_bytes

MEGABYTE = 2**20
BATCH = (1, 1, 96, 96, 96)


class Chain(torch.nn.Module):
    """Four layers whose outputs are all kept for the backward pass."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Conv3d(1, 1, 1) for _ in range(4))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).sigmoid()
        return x


@pytest.fixture(scope="module")
def full_size():
    with torch.device("meta"):
        return TPMamba(1, 14)


@pytest.fixture(scope="module")
def count(full_size):
    """``training_step_bytes`` of the paper's network, which takes seconds, once for each way to train it."""

    @cache
    def count(checkpointing, device_type):
        assert full_size.checkpointing == checkpointing
        return training_step_bytes(full_size, BATCH, device_type)

    return count


@pytest.fixture
def decide(full_size, count, monkeypatch):
    """What is decided for the paper's network where so many bytes are free."""

    def counted(network, shape, device_type):
        assert (network, shape) == (full_size, BATCH)
        return count(network.checkpointing, device_type)

    monkeypatch.setattr(memory, "training_step_bytes", counted)
    return lambda free: decide_checkpointing(full_size, BATCH, "cuda", free, "wait")


def test_counts_what_is_alive_at_the_worst_moment():
    needed = training_step_bytes(Chain(), (1, 1, 64, 64, 64), "cpu") / MEGABYTE
    # one megabyte each: the input, four outputs, and some of the loss and its gradient
    assert 6 <= needed <= 9


def test_autocast_makes_it_smaller(full_size, count):
    full_size.checkpointing = False
    assert count(False, "cuda") < 0.75 * count(False, "mps")


def test_a_step_of_a_cpu_is_counted_in_its_precision(tiny_config, monkeypatch):
    network, counted = TPMamba(1, 2, tiny_config), {}
    for precision in ("float32", "bfloat16"):
        monkeypatch.setenv("TPMAMBA_CPU_PRECISION", precision)
        for device_type in ("cpu", "mps"):
            counted[precision, device_type] = training_step_bytes(network, (1, 1, 16, 64, 64), device_type)
    assert counted["bfloat16", "cpu"] < counted["float32", "cpu"]
    assert counted["bfloat16", "mps"] == counted["float32", "mps"]


@pytest.mark.parametrize("device_type", ["cuda", "mps"])
def test_what_is_counted_for_a_gpu_does_not_depend_on_how_a_cpu_splits_the_work(tiny_config, monkeypatch, device_type):
    network = TPMamba(1, 2, tiny_config)
    counted = []
    for values in (1, 10**12):
        monkeypatch.setattr(window_attention, "VALUES_AT_A_TIME", values)
        counted.append(training_step_bytes(network, (1, 1, 16, 32, 32), device_type))
    assert counted[0] == counted[1]


@pytest.mark.parametrize(("card", "checkpointing"), [(24, "off"), (11, "off"), (8, "on"), (6, "on")])
def test_what_is_chosen_for_the_paper_network_on_usual_cards(full_size, decide, card, checkpointing):
    """In GB; a tenth is gone to CUDA and the desktop."""
    decision = decide(int(0.9 * card * 1e9))
    assert decision.startswith(checkpointing)
    assert f"{0.9 * card:.1f} GB are free" in decision
    assert "too little" not in decision
    assert full_size.checkpointing == (checkpointing == "on")


def test_says_what_to_do_if_even_that_may_be_too_much(decide):
    decision = decide(int(1e9))
    assert decision.startswith("on")
    assert "This may be too little: free memory, or wait" in decision


def test_unknown_free_memory_leaves_it_off(tiny_config):
    network = TPMamba(1, 2, tiny_config)
    decision = decide_checkpointing(network, (1, 1, 4, 16, 16), "meta", None, "wait")
    assert decision == "off; the free memory is not known here"
    assert not network.checkpointing


def test_counting_leaves_the_network_alone(tiny_config):
    network = TPMamba(1, 2, replace(tiny_config, checkpointing=True))
    before = {name: x.clone() for name, x in network.state_dict().items()}
    training_step_bytes(network, (2, 1, 4, 16, 16), "cpu")
    assert all(torch.equal(network.state_dict()[name], x) for name, x in before.items())
    assert all(p.grad is None for p in network.parameters())


def test_free_memory_of_this_machine():
    free = free_bytes(torch.device("cpu"))
    assert 10 * MEGABYTE < free < 2**50
    assert free_bytes(torch.device("mps")) > 0  # shared with the CPU
    assert free_bytes(torch.device("meta")) is None


@pytest.mark.gpu
def test_gpu_needs_what_was_counted():
    network = TPMamba(1, 14).cuda()
    needed = training_step_bytes(network, BATCH, "cuda")
    torch.cuda.reset_peak_memory_stats()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])
    for _ in range(2):
        with torch.autocast("cuda"):
            logits = network(torch.rand(BATCH, device="cuda"))
        logits.float().log_softmax(1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert needed / memory.MARGIN < torch.cuda.max_memory_allocated() < needed * memory.MARGIN


def test_peak_memory_of_the_process():
    code = (
        "import torch; from nnunetv2_tpmamba.trainers.memory import peak_bytes; "
        "cpu = torch.device('cpu'); a = peak_bytes(cpu); "
        "torch.ones(10**8); print(peak_bytes(cpu) >= a + 3 * 10**8, peak_bytes(torch.device('mps')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "None"]


@pytest.mark.skipif(not memory.CLEAR_REFS.exists(), reason="the system cannot restart the peak")
def test_the_peak_memory_of_a_part_of_the_process():
    code = (
        "import torch; from nnunetv2_tpmamba.trainers.memory import peak_bytes, restart_peak; "
        "cpu = torch.device('cpu'); torch.ones(10**8); a = peak_bytes(cpu); "
        "print(restart_peak(cpu), peak_bytes(cpu) <= a - 3 * 10**8, restart_peak(torch.device('mps')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "True", "False"]


def test_a_peak_that_the_system_does_not_restart(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path)  # a folder cannot be written to
    assert not memory.restart_peak(torch.device("cpu"))


def test_peak_memory_leaves_out_the_process_that_started_this_one():
    ours = (
        "import torch; from nnunetv2_tpmamba.trainers.memory import peak_bytes; print(peak_bytes(torch.device('cpu')))"
    )
    starter = "import subprocess, sys; held = bytearray(10**9); subprocess.run([sys.executable, '-c', sys.argv[1]])"
    result = subprocess.run([sys.executable, "-c", starter, ours], capture_output=True, text=True, check=True)
    assert 0 < int(result.stdout) < 10**9


def test_every_output_of_deep_supervision_is_counted():
    class Heads(torch.nn.Module):
        def __init__(self, outputs):
            super().__init__()
            self.heads = torch.nn.ModuleList(torch.nn.Conv3d(1, 8, 1) for _ in range(outputs))

        def forward(self, x):
            return [head(x) for head in self.heads]

    one, three = (training_step_bytes(Heads(n), (1, 1, 32, 32, 32), "cpu") for n in (1, 3))
    assert three > 2 * one


def test_counts_a_network_with_a_tensor_that_is_no_buffer():
    with torch.device("meta"):
        network = torch.nn.Conv3d(1, 2, 1)
        network.kept = torch.empty(0)  # as MONAI's attention has one
    assert training_step_bytes(network, (1, 1, 8, 8, 8), "cpu") > 0
