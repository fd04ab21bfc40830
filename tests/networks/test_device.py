"""Which device a tensor is computed on, and which one it stands for while memory is counted."""

import pytest
import torch

from nnunetv2_tpmamba.networks.device import counted_for, is_for_cpu


def test_a_tensor_of_the_cpu_is_for_the_cpu_unless_it_stands_for_another_device():
    x = torch.zeros(1)
    assert is_for_cpu(x)
    with counted_for("cuda"):
        assert not is_for_cpu(x)
        with counted_for("cpu"):
            assert is_for_cpu(x)
        assert not is_for_cpu(x)
    assert is_for_cpu(x)


def test_a_tensor_of_another_device_never_is():
    with counted_for("cpu"):
        assert not is_for_cpu(torch.zeros(1, device="meta"))


def test_an_error_while_counting_ends_it():
    with pytest.raises(RuntimeError, match="no memory"), counted_for("cuda"):
        raise RuntimeError("no memory")
    assert is_for_cpu(torch.zeros(1))
