"""What the process of a part is given: a device with sizes, a folder, a notebook and a time limit."""

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_tpmamba.benchmark.setting import Setting
from nnunetv2_tpmamba.files import find_program

from .notebook import Notebook

DATASET = "Dataset700_PhantomAbdomen"
CONFIGURATION = "3d_fullres"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
SAM_FILE = "sam.pth"
SMALL_TRAINER, TRAINER = "nnUNetTrainerTPMamba_demo", "nnUNetTrainerTPMamba"


@dataclass(frozen=True)
class Work:
    """Where and with what a part works.

    Args:
        setting: the device, and full or tiny sizes.
        folder: holds what parts leave for each other, in nnU-Net's three folders, and is deleted with the last part.
        notebook: where the part writes what it finds.
        deadline: when it is ended, by ``time.monotonic()``.
    """

    setting: Setting
    folder: Path
    notebook: Notebook
    deadline: float

    @property
    def trainer(self) -> str:
        """The trainer that the parts train and predict with."""
        return SMALL_TRAINER if self.setting.small else TRAINER

    @property
    def raw(self) -> Path:
        return self.folder / "nnUNet_raw" / DATASET

    @property
    def preprocessed(self) -> Path:
        return self.folder / "nnUNet_preprocessed" / DATASET

    @property
    def sam_file(self) -> Path:
        return self.folder / SAM_FILE

    def model(self, trainer: str) -> Path:
        """nnU-Net's folder of a trainer's first fold."""
        model = f"{trainer}__nnUNetPlans__{CONFIGURATION}"
        return self.folder / "nnUNet_results" / DATASET / model / "fold_0"

    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def run(self, name: str, *arguments: object, **environment: str) -> None:
        """Run a console command to its end; what it prints goes where this process prints.

        Raises:
            RuntimeError: it failed.
        """
        print(f"$ {' '.join(map(str, (name, *arguments)))}", flush=True)
        status = subprocess.run(command(name, *arguments), env=os.environ | environment, check=False).returncode
        if status:
            raise RuntimeError(f"{name} ended with status {status}; what it printed is in this part's log")


def command(name: str, *arguments: object) -> list[str]:
    """The command line of a console command, see :func:`~nnunetv2_tpmamba.files.find_program`."""
    return [find_program(name), *map(str, arguments)]


def environment(folder: Path) -> Mapping[str, str]:
    """The environment of the parts: this process's, with nnU-Net's folders and all caches in ``folder``.

    Empty caches of torch.compile and Triton make compiling take as long as the first time.
    """
    from nnunetv2_tpmamba.trainers import plugin

    env = {name: value for name, value in os.environ.items() if name not in ("nnUNet_compile", "nnUNet_n_proc_DA")}
    env |= {name: str(folder / name) for name in FOLDERS}
    env |= {
        "nnUNet_extTrainer": plugin.__path__[0],
        "nnUNet_def_n_proc": str(min(os.cpu_count() or 1, 4)),
        "nnUNet_wandb_enabled": "0",
        "TPMAMBA_SAM_CHECKPOINT": str(folder / SAM_FILE),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    env.setdefault("OMP_WAIT_POLICY", "passive")
    return env
