"""Write what was trained, without SAM's weights, into one file to share: tens of MB instead of 0.4 GB per fold.

`nnUNetv2_tpmamba install FILE` makes the same model from the file and SAM's weights, bit for bit. The file is in the
safetensors format: reading it runs no code, unlike reading a checkpoint (.pth) of nnU-Net's.
"""

import argparse
import os
import shlex
from pathlib import Path

from nnunetv2_tpmamba.data.folders import find_dataset, find_results

from .options import add_option

HELP = "write what was trained, without SAM's weights, into one file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "-d")
    parser.add_argument("-o", required=True, type=Path, metavar="FILE", help="file to write, e.g. model.safetensors")
    for name in ("-tr", "-p", "-c", "-f"):
        add_option(parser, name)
    parser.add_argument(
        "-chk", default="checkpoint_final.pth", metavar="FILE", help="checkpoint of each fold (checkpoint_final.pth)"
    )
    add_option(parser, "--overwrite")


def run(args: argparse.Namespace) -> int:
    if args.o.exists() and not args.overwrite:
        raise FileExistsError(f"{args.o} exists; name another file, or replace it with --overwrite")
    if not args.o.absolute().parent.is_dir():
        raise FileNotFoundError(f"{args.o.absolute().parent} does not exist; make this folder, or name another file")

    from nnunetv2_tpmamba.comparison.runs import begun_folds, model_folder
    from nnunetv2_tpmamba.trained.exported_file import write_exported_model

    model = model_folder(find_results() / find_dataset(args.d), args.tr, args.p, args.c)
    folds = args.f or begun_folds(model)
    if not folds:
        raise FileNotFoundError(f"{model} holds no fold; train it first")
    before = sum(os.path.getsize(path) for fold in folds for path in (model / f"fold_{fold}").glob(args.chk))
    description = write_exported_model(model, folds, args.chk, args.o)
    print(f"file:   {args.o}")
    print(f"size:   {args.o.stat().st_size / 1e6:.0f} MB, of checkpoints of {before / 1e6:.0f} MB")
    print(f"holds:  {description.trainer}, {'folds' if len(folds) > 1 else 'fold'} {', '.join(folds)} of {model}")
    name = f"{description.encoder['name']}, " if "name" in description.encoder else ""
    print(f"SAM:    {name}SHA-256 of its tensors {description.sam}")
    print(f"On a machine with the same SAM file, install it with: nnUNetv2_tpmamba install {shlex.quote(args.o.name)}")
    return 0
