"""nnU-Net's commands in subprocesses, with folders of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_tpmamba.trainers import plugin

REPOSITORY = Path(__file__).parents[2]
PLUGIN = Path(plugin.__path__[0])  # of the installed package, which need not be this clone
TRAINERS = Path(__file__).parent / "trainers"


class NnUNet:
    """nnU-Net's three folders in one temporary folder, and its commands run there in subprocesses."""

    def __init__(self, root):
        self.raw, self.preprocessed, self.results = (root / name for name in ("raw", "preprocessed", "results"))
        for folder in (self.raw, self.preprocessed, self.results):
            folder.mkdir(parents=True)
        self.environment = {
            **os.environ,
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(self.preprocessed),
            "nnUNet_results": str(self.results),
            "nnUNet_extTrainer": os.pathsep.join([str(PLUGIN), str(TRAINERS)]),
            "nnUNet_n_proc_DA": "1",
            "nnUNet_def_n_proc": "1",
        }
        self.environment.pop("TPMAMBA_SAM_CHECKPOINT", None)

    def run(self, command, *arguments, check=True, timeout=540, **environment):
        """Run an installed console command; return the completed process, its output as text."""
        result = subprocess.run(
            [str(Path(sys.executable).with_name(command)), *map(str, arguments)],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and result.returncode:
            pytest.fail(f"{command} exited with {result.returncode}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}")
        return result
