"""Run the whole pipeline with nnU-Net's own commands: plan, preprocess, train, predict, evaluate, and draw a picture.

The data are synthetic abdominal CTs, or the raw nnU-Net data set given with --data, which is only read. The network is
small and trains from random weights for some minutes: this shows that the pipeline works, not the paper's accuracy.
Everything is written below --out, with nnUNet_raw, nnUNet_preprocessed and nnUNet_results of its own.
"""

import argparse
import json
import os
import shlex
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_tpmamba.config import DEMO_SEED
from nnunetv2_tpmamba.demo.scores import DiceTable
from nnunetv2_tpmamba.demo.workspace import CONFIGURATION, TRAINER, Workspace

from .console import Console
from .options import positive

if TYPE_CHECKING:
    from nnunetv2_tpmamba.data.labels import Labels
    from nnunetv2_tpmamba.data.raw_dataset import RawDataset

HELP = "show the whole pipeline on synthetic CTs or on your data, in minutes"
OUT = "tpmamba_demo"
PHANTOM = "Dataset700_PhantomAbdomen"
PHANTOM_TRAINING, PHANTOM_UNSEEN = 10, 3
MOST_CASES_SHOWN = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path(OUT), metavar="DIR", help=f"folder for everything ({OUT})")
    parser.add_argument(
        "--data", type=Path, metavar="RAW_DATASET_FOLDER", help="your data: dataset.json, imagesTr, labelsTr"
    )
    parser.add_argument("--epochs", type=positive, metavar="N", help="train for N epochs instead of the trainer's own")
    parser.add_argument(
        "--seed", type=positive, default=DEMO_SEED, metavar="S", help=f"of the training's random numbers ({DEMO_SEED})"
    )


def run(args: argparse.Namespace) -> int:
    from nnunetv2_tpmamba.data.labels import Labels
    from nnunetv2_tpmamba.data.raw_dataset import RawDataset

    started = time.monotonic()
    source = None if args.data is None else RawDataset.read(args.data.resolve())
    work = Workspace(args.out.absolute(), PHANTOM if source is None else source.name)
    work.claim(None if source is None else source.folder, log=partial(print, flush=True))
    with Console(work.log, steps=6) as console:
        console.say(f"Everything goes into {work.out}. The file {work.log.name} there keeps all that is shown here.")
        provide_data(work, source, console)
        run_nnunet(work, args.epochs, args.seed, console)

        description = json.loads((work.raw / "dataset.json").read_text())
        labels = Labels.of(description)
        dice = DiceTable.read(work.predictions / "summary.json", labels.classes, description["file_ending"])
        console.say(f"\nDice of the unseen cases (1 is perfect)\n{dice.as_text(MOST_CASES_SHOWN)}")

        console.step("Draw them")
        console.say(f"Picture: {draw(work, dice, labels, description)}")
        console.say(f"Time:    {(time.monotonic() - started) / 60:.1f} minutes\n")
        console.say(closing_words("synthetic CTs" if source is None else "your data"))
    return 0


def provide_data(work: Workspace, source: "RawDataset | None", console: Console) -> None:
    """Step 1: make phantoms, or link the user's data."""
    if source is not None:
        console.step(f"Take the data in {source.folder}")
        source.link(work.raw)
        console.say(f"{len(source.training)} cases to train on; unseen: {', '.join(source.unseen)}")
        return
    from nnunetv2_tpmamba.demo.phantom import write_dataset

    console.step(f"Make synthetic abdominal CTs: {PHANTOM_TRAINING} to train on, {PHANTOM_UNSEEN} unseen")
    write_dataset(work.raw, PHANTOM_TRAINING, PHANTOM_UNSEEN, on_case=lambda case: console.say(f"  {case}"))


def run_nnunet(work: Workspace, epochs: int | None, seed: int, console: Console) -> None:
    """Steps 2 to 5: nnU-Net's own commands, each shown as it would be typed."""
    from nnunetv2_tpmamba.doctor.training import best_device

    number, device, few = work.dataset[7:10], best_device(), str(min(os.cpu_count() or 1, 4))
    env = environment(work, epochs, seed)
    raw, predictions = work.raw, str(work.predictions)
    console.say("\nThe following are nnU-Net's own commands. In a shell they also need:")
    for variable, folder in work.folders.items():
        console.say(f"export {variable}={shlex.quote(folder)}")
    console.say("export nnUNet_extTrainer=$(nnUNetv2_tpmamba path)")

    console.step("Plan and preprocess")
    plan = ["nnUNetv2_plan_and_preprocess", "-d", number, "-c", CONFIGURATION, "--verify_dataset_integrity"]
    console.run([*plan, "-np", few, "-npfp", few], env)
    work.write_split()

    console.step(f"Train {TRAINER} on the {'GPU' if device == 'cuda' else 'CPU'}")
    if epochs is None:
        console.say("On two idle CPU cores this takes six to twelve minutes")
    console.run(["nnUNetv2_train", number, CONFIGURATION, "0", "-tr", TRAINER, "-device", device], env)

    console.step("Predict the unseen cases")
    predict = ["nnUNetv2_predict", "-i", str(raw / "imagesTs"), "-o", predictions, "-d", number]
    model = ["-c", CONFIGURATION, "-tr", TRAINER, "-f", "0"]
    console.run([*predict, *model, "-npp", "1", "-nps", few, "-device", device], env)

    console.step("Compare the predictions with the truth")
    files = ["-djfile", f"{predictions}/dataset.json", "-pfile", f"{predictions}/plans.json"]
    console.run(["nnUNetv2_evaluate_folder", str(raw / "labelsTs"), predictions, *files, "-np", few], env)


def environment(work: Workspace, epochs: int | None, seed: int) -> dict[str, str]:
    """The environment of nnU-Net's commands: this process's, with the demo's folders, few processes and the seed."""
    from nnunetv2_tpmamba.trainers import plugin

    cores = os.cpu_count() or 1
    env = dict(os.environ)
    env.update(work.folders)
    env.update(
        nnUNet_extTrainer=plugin.__path__[0],
        nnUNet_n_proc_DA="1",  # from several, batches come in an order that differs from run to run
        nnUNet_def_n_proc=str(min(cores, 4)),
        nnUNet_compile="f",  # compiling would take longer than it saves in minutes
        PYTHONUNBUFFERED="1",
        TPMAMBA_DEMO_SEED=str(seed),
    )
    env.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait take cores from other programs
    if epochs is not None:
        env["TPMAMBA_DEMO_EPOCHS"] = str(epochs)
    return env


def draw(work: Workspace, dice: DiceTable, labels: "Labels", description: Mapping[str, Any]) -> str:
    """Draw image, truth and prediction of the first cases; return the picture's path, or why there is none."""
    from nnunetv2_tpmamba.comparison.pictures import draw_case_pictures
    from nnunetv2_tpmamba.comparison.volumes import read_case_picture

    ending = description["file_ending"]
    try:
        cases = [
            read_case_picture(
                f"{name}: mean Dice {dice.mean(name):.3f}",
                work.raw / "imagesTs" / f"{name}_0000{ending}",
                work.raw / "labelsTs" / f"{name}{ending}",
                {"prediction": work.predictions / f"{name}{ending}"},
                description,
            )
            for name in list(dice.cases)[:MOST_CASES_SHOWN]
        ]
        draw_case_pictures(cases, labels.names_of_values(), work.picture)
    except Exception as error:  # of any kind: the scores stand above
        return f"none, as the cases cannot be drawn ({type(error).__name__}: {' '.join(str(error).split())})"
    return str(work.picture)


def closing_words(data: str) -> str:
    return f"""\
This shows that the pipeline works from raw data to evaluation, on {data} and with a small network trained from
random weights for minutes. It does not show the paper's accuracy: that takes SAM's weights, a GPU and more time:

  export nnUNet_raw=... nnUNet_preprocessed=... nnUNet_results=...   # your own
  export nnUNet_extTrainer=$(nnUNetv2_tpmamba path)
  nnUNetv2_tpmamba weights
  nnUNetv2_plan_and_preprocess -d DATASET -c 3d_fullres --verify_dataset_integrity
  nnUNetv2_train DATASET 3d_fullres 0 -tr nnUNetTrainerTPMamba
  nnUNetv2_predict -i IMAGES -o PREDICTIONS -d DATASET -c 3d_fullres -f 0 -tr nnUNetTrainerTPMamba"""
