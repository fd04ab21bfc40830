"""nnU-Net's commands on the CPU in subprocesses, with folders of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_tpmamba.trainers import plugin

REPOSITORY = Path(__file__).parents[2]
PLUGIN = Path(plugin.__path__[0])  # of the installed package, which need not be this clone
TRAINERS = Path(__file__).parent / "trainers"
ON_CPU = ("-device", "cpu")


def installed(program, *arguments):
    """The command line of a program of this environment."""
    return [str(Path(sys.executable).with_name(program)), *map(str, arguments)]


def train_command(dataset, trainer, *options, fold=0):
    return ("nnUNetv2_train", dataset, "3d_fullres", fold, "-tr", trainer, *ON_CPU, *options)


def predict_command(dataset, trainer, images, output, *options, folds=(0,)):
    """``nnUNetv2_predict`` with one process for each of its tasks."""
    return (
        *("nnUNetv2_predict", "-i", images, "-o", output, "-d", dataset, "-c", "3d_fullres", "-tr", trainer),
        *("-f", *folds, "-npp", 1, "-nps", 1, *ON_CPU, *options),
    )


def model_folder(results, dataset, trainer, plans="nnUNetPlans"):
    return results / dataset / f"{trainer}__{plans}__3d_fullres"


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
            "PYTHONUNBUFFERED": "1",  # what a command that is killed has printed would be lost
        }
        self.environment.pop("TPMAMBA_SAM_CHECKPOINT", None)

    def run(self, command, *arguments, check=True, timeout=540, **environment):
        """Run an installed console command; return the completed process, its output as text."""
        result = subprocess.run(
            installed(command, *arguments),
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and result.returncode:
            pytest.fail(f"{command} exited with {result.returncode}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}")
        return result

    def start(self, log, command, *arguments, **environment):
        """Start a command in a session of its own, and let it write to a file: an orphan would hold a pipe open."""
        with log.open("w") as output:
            return subprocess.Popen(
                installed(command, *arguments),
                env={**self.environment, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def plan(self, dataset):
        """Plan a raw data set, such as ``Dataset901_Blobs``, without preprocessing it."""
        self.run("nnUNetv2_plan_and_preprocess", "-d", dataset[7:10], "-c", "3d_fullres", "--no_pp", "-npfp", 1)

    def train(self, dataset, trainer, *options, fold=0, **how):
        """Train one fold; return the completed process."""
        return self.run(*train_command(dataset, trainer, *options, fold=fold), **how)

    def predict(self, dataset, trainer, images, output, *options, folds=(0,), **how):
        """Predict a folder of images; return the folder of predictions."""
        self.run(*predict_command(dataset, trainer, images, output, *options, folds=folds), **how)
        return output
