"""The Triton kernels as far as they can be tested without a GPU: what they compute, and that they compile for GPUs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", minversion="3.3", reason="needs Triton, which comes with torch on Linux")

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
KERNELS = {  # names of the tensors, as in the signatures
    "_forward": "u delta A B C D y states",
    "_reverse": "grad_y u delta A B C D from_later grad_u grad_delta grad_D",
    "_products": "grad_y u delta A B C states from_later grad_delta grad_B grad_C",
}


def test_they_compute_what_the_reference_does():
    """In a process of its own, because Triton decides at import whether it interprets."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "triton_interpreted.py"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("capability", [75, 80, 90])
@pytest.mark.parametrize("kernel", KERNELS)
def test_they_compile_for(kernel, capability, dtype, tmp_path, monkeypatch):
    """From the RTX 2080 Ti to the H200, at the network's sizes: next to nothing spills, and 8 programs share a core."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from nnunetv2_tpmamba.networks.ops import triton_cuda

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(triton_cuda, kernel)
    outside = {"u", "delta", "B", "C", "y", "grad_y"}
    tensors = {name: f"*{dtype if name in outside else 'fp32'}" for name in KERNELS[kernel].split()}
    sizes = {"N": 16, "T": triton_cuda.CHUNK, "BLOCK_E": triton_cuda.MAX_D_STATE // 16, "BLOCK_N": 16}
    names = [*tensors, "L", "E", *sizes]
    assert function.arg_names == names
    signature = tensors | {"L": "i32", "E": "i32"} | dict.fromkeys(sizes, "constexpr")
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in (*tensors, "E")}
    source = ASTSource(function, signature, {(names.index(name),): size for name, size in sizes.items()}, aligned)
    compiled = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 1, "enable_fp_fusion": True}
    )
    (tmp_path / "cubin").write_bytes(compiled.asm["cubin"])
    usage = subprocess.run(
        [TOOLS / "cuobjdump", "-res-usage", tmp_path / "cubin"], capture_output=True, text=True, check=True
    ).stdout
    registers, stack = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))
    shared = compiled.metadata.shared
    print(f"{kernel} sm_{capability} {dtype}: {registers} registers, {stack} bytes spilled, {shared} shared")
    assert stack <= 64
    assert shared <= 8192
