"""Run the whole pipeline with nnU-Net's own commands: plan, preprocess, train, predict, evaluate, and a picture.

The data are synthetic abdominal CTs, or any raw nnU-Net data set given with --data, which is only read. The network is
a small one trained from random weights for minutes: this shows the pipeline, not the paper's accuracy. Everything is
written below --out, with nnUNet_raw, nnUNet_preprocessed and nnUNet_results of its own.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2_tpmamba.demo.raw_dataset import RawDataset
from nnunetv2_tpmamba.demo.scores import Scores

from .console import Console
from .options import positive

HELP = "show the whole pipeline on synthetic CTs or on your data, in minutes"
TRAINER = "nnUNetTrainerTPMamba_demo"
CONFIGURATION = "3d_fullres"
MODEL = f"{TRAINER}__nnUNetPlans__{CONFIGURATION}"  # nnU-Net's folder for it
FOLDER_VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
PHANTOM = "Dataset700_PhantomAbdomen"
PHANTOM_TRAINING, PHANTOM_UNSEEN = 10, 3
MARKER = "demo.json"  # says that a folder was made by this command, and for which data set
MOST_CASES_SHOWN = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("tpmamba_demo"), metavar="DIR", help="folder for everything (tpmamba_demo)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="RAW_DATASET_FOLDER", help="your data: dataset.json, imagesTr, labelsTr"
    )
    parser.add_argument("--epochs", type=positive, metavar="N", help="train for N epochs instead of the trainer's own")


def run(args: argparse.Namespace) -> int:
    started = time.monotonic()
    source = None if args.data is None else RawDataset.read(args.data.resolve())
    dataset = PHANTOM if source is None else source.name
    out = args.out.absolute()
    claim(out, dataset, None if source is None else source.folder)
    raw, predictions, picture = out / "nnUNet_raw" / dataset, out / "predictions", out / "demo.png"
    with Console(out / "demo.log", steps=6) as console:
        console.say(f"Everything goes into {out}, and all that is shown here into {console.log.name} there.")

        if source is None:
            console.step(f"Make synthetic abdominal CTs: {PHANTOM_TRAINING} to train on, {PHANTOM_UNSEEN} unseen")
            make_phantoms(raw, console)
        else:
            console.step(f"Take the data in {source.folder}")
            source.link(raw)
            console.say(f"{len(source.training)} cases to train on; unseen: {', '.join(source.unseen)}")

        number, device, few = dataset[7:10], best_device(), str(min(os.cpu_count() or 1, 4))
        env = environment(out, args.epochs)
        console.say("\nThe following are nnU-Net's own commands. In a shell they also need:")
        for variable in FOLDER_VARIABLES:
            console.say(f"export {variable}={shlex.quote(env[variable])}")
        console.say("export nnUNet_extTrainer=$(nnUNetv2_tpmamba path)")
        model = ["-c", CONFIGURATION, "-tr", TRAINER, "-f", "0"]

        console.step("Plan and preprocess")
        processes = ["-np", few, "-npfp", few]
        console.run(
            [
                "nnUNetv2_plan_and_preprocess",
                "-d",
                number,
                "-c",
                CONFIGURATION,
                "--verify_dataset_integrity",
                *processes,
            ],
            env,
        )
        write_split(out / "nnUNet_preprocessed" / dataset, raw)

        console.step(f"Train {TRAINER} on the {'GPU' if device == 'cuda' else 'CPU'}")
        if args.epochs is None:
            console.say("On two idle CPU cores this takes about ten minutes, 25 epochs")
        console.run(["nnUNetv2_train", number, CONFIGURATION, "0", "-tr", TRAINER, "-device", device], env)

        console.step("Predict the unseen cases")
        folders = ["-i", str(raw / "imagesTs"), "-o", str(predictions)]
        processes = ["-npp", "1", "-nps", few]
        console.run(["nnUNetv2_predict", *folders, "-d", number, *model, *processes, "-device", device], env)

        console.step("Compare the predictions with the truth")
        files = ["-djfile", str(predictions / "dataset.json"), "-pfile", str(predictions / "plans.json")]
        console.run(
            ["nnUNetv2_evaluate_folder", str(raw / "labelsTs"), str(predictions), *files, "-np", few],
            env,
        )

        console.step("Draw them")
        description = json.loads((raw / "dataset.json").read_text())
        scores = Scores.read(predictions / "summary.json", description)
        draw(raw, predictions, scores, description, picture)

        console.say(f"\nDice of the unseen cases (1 is perfect)\n{scores.table(MOST_CASES_SHOWN)}\n")
        console.say(f"Picture: {picture}\nTime:    {(time.monotonic() - started) / 60:.1f} minutes\n")
        console.say(closing_words("synthetic CTs" if source is None else "your data"))
    return 0


def claim(out: Path, dataset: str, data: Path | None) -> None:
    """Make ``out`` the demo's: it is new or empty, or an earlier demo's, whose work is then removed.

    Raises:
        ValueError: ``out`` holds anything else, or lies in ``data`` or around it.
    """
    if data is not None and (out.resolve().is_relative_to(data) or data.is_relative_to(out.resolve())):
        raise ValueError(f"--out {out} and --data {data} lie in each other; name another folder with --out")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder")
    marker = out / MARKER
    if marker.is_file():
        earlier = made_by_demo(out, marker)
        print(f"{out} holds an earlier demo; its data, training, predictions and picture are made anew.", flush=True)
        for path in earlier:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    elif out.is_dir() and any(out.iterdir()):
        raise ValueError(f"--out {out} is not empty and was not made by this command; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"made_by": "nnUNetv2_tpmamba demo", "dataset": dataset}))


def made_by_demo(out: Path, marker: Path) -> list[Path]:
    """What an earlier demo wrote below ``out``; not what somebody else may have added."""
    try:
        dataset = json.loads(marker.read_text())["dataset"]
        named = re.fullmatch(r"Dataset\d{3}_[^/\\]+", dataset)
    except (ValueError, KeyError, TypeError):
        named = None
    if named is None:
        raise ValueError(f"{marker} is not as the demo writes it, so {out} stays as it is; name another folder")
    model = out / "nnUNet_results" / dataset / MODEL
    folders = [out / "nnUNet_raw" / dataset, out / "nnUNet_preprocessed" / dataset, model, out / "predictions"]
    return [*folders, out / "demo.log", out / "demo.png"]


def make_phantoms(raw: Path, console: Console) -> None:
    from nnunetv2_tpmamba.demo.phantom import write_dataset

    write_dataset(raw, PHANTOM_TRAINING, PHANTOM_UNSEEN, on_case=lambda case: console.say(f"  {case}"))


def best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def environment(out: Path, epochs: int | None) -> dict[str, str]:
    """The environment of nnU-Net's commands: ours but for nnU-Net's folders and processes."""
    from nnunetv2_tpmamba.trainers import plugin

    cores = os.cpu_count() or 1
    env = dict(os.environ)
    env.update({variable: str(out / variable) for variable in FOLDER_VARIABLES})
    env.update(
        nnUNet_extTrainer=str(Path(str(plugin.__file__)).parent),
        nnUNet_n_proc_DA=str(max(1, min(cores // 2, 8))),
        nnUNet_def_n_proc=str(min(cores, 4)),
        nnUNet_compile="f",  # compiling would take longer than it saves in minutes
        PYTHONUNBUFFERED="1",
    )
    # threads that spin while they wait take the cores from augmentation
    env.setdefault("OMP_WAIT_POLICY", "passive")
    if epochs is not None:
        env["TPMAMBA_DEMO_EPOCHS"] = str(epochs)
    return env


def write_split(preprocessed: Path, raw: Path) -> None:
    """One fold with a single validation case, as nnU-Net predicts all of them at the end of the training.

    Raises:
        RuntimeError: nnU-Net planned no 3D configuration.
    """
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    if CONFIGURATION not in plans["configurations"]:
        raise RuntimeError(f"nnU-Net planned no {CONFIGURATION} for these data; TP-Mamba needs 3D images")
    ending = json.loads((raw / "dataset.json").read_text())["file_ending"]
    cases = sorted(path.name.removesuffix(ending) for path in (raw / "labelsTr").iterdir())
    fold = {"train": cases[:-1] if len(cases) > 2 else cases, "val": cases[-1:]}
    (preprocessed / "splits_final.json").write_text(json.dumps([fold], indent=2))


def draw(raw: Path, predictions: Path, scores: Scores, description: Mapping[str, Any], picture: Path) -> None:
    from nnunetv2_tpmamba.comparison.pictures import draw_comparisons, label_names
    from nnunetv2_tpmamba.comparison.volumes import read_comparison

    ending = description["file_ending"]
    shown = list(scores.cases)[:MOST_CASES_SHOWN]
    cases = [
        read_comparison(
            f"{name}: mean Dice {scores.mean(name):.3f}",
            raw / "imagesTs" / f"{name}_0000{ending}",
            raw / "labelsTs" / f"{name}{ending}",
            {"prediction": predictions / f"{name}{ending}"},
            description,
        )
        for name in shown
    ]
    draw_comparisons(cases, label_names(description), picture)


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
