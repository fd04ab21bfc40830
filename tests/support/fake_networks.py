"""Networks of full size that take no memory and no time to compute, because their tensors have no data."""

import copy

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode


def output_shapes(build, shape):
    """The shapes of what a network returns under fp16 for an input of ``shape``; ``build`` makes the network."""
    with torch.device("meta"):
        network = build()
    with FakeTensorMode(), torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        twins = {id(p): nn.Parameter(torch.empty(p.shape), p.requires_grad) for p in network.parameters()}
        twins |= {id(b): torch.empty(b.shape, dtype=b.dtype) for b in network.buffers()}
        # the memo of deepcopy: what to take instead of copies; many operators know no autocast on the meta device
        outputs = copy.deepcopy(network, twins)(torch.empty(shape))
    return [tuple(x.shape) for x in ([outputs] if isinstance(outputs, torch.Tensor) else outputs)]
