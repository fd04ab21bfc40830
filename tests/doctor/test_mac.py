"""The doctor on a Mac's GPU, as far as that goes without one: PyTorch's CPU computes what is asked of mps."""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from nnunetv2_tpmamba import doctor as checks
from nnunetv2_tpmamba.networks.tpmamba import TPMamba


class OnCPU(TorchFunctionMode):
    """Let tensors that are asked for on mps be made on the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def on_cpu(x):
            return torch.device("cpu") if isinstance(x, str | torch.device) and str(x) == "mps" else x

        # torch.device is left alone, so that the code under test still sees which device it asks for
        changed = (args, kwargs or {}) if func is torch.device else tree_map(on_cpu, (args, kwargs or {}))
        return func(*changed[0], **changed[1])


@pytest.fixture
def mac(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with OnCPU():
        yield


def test_it_is_named_and_nothing_is_promised(mac):
    finding = checks.check_device()
    assert finding.state == "note"
    assert finding.text.startswith("this Mac's GPU (mps); nobody has tested this package on a Mac")
    assert "-device mps" in finding.advice[0]


def test_the_loop_scans_and_a_step_is_taken(mac):
    scan, step = checks.check_scan(), checks.check_step()
    assert (scan.state, step.state) == ("ok", "ok")
    assert scan.text == "selective scan: PyTorch loop on mps; its output and gradients agree with the reference"
    assert step.text == "training step: a tiny network's forward, backward and AdamW step work on mps"


def test_what_pytorch_lacks_on_mps_is_named_with_a_way_round_it(mac, monkeypatch):
    def lacking(self, volume):
        raise NotImplementedError("The operator 'aten::x' is not currently implemented for the MPS device.\nMore")

    monkeypatch.setattr(TPMamba, "forward", lacking)
    finding = checks.check_step()
    assert finding.state == "FAIL"
    assert finding.text.endswith(
        "on mps: NotImplementedError: The operator 'aten::x' is not currently implemented for the MPS device."
    )
    assert finding.advice[0].startswith("export PYTORCH_ENABLE_MPS_FALLBACK=1")
    assert finding.advice[1] == "or use -device cpu"
