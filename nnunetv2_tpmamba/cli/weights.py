"""Find SAM's weights or download them, and check them.

This command looks where TPMAMBA_SAM_CHECKPOINT points, then in the caches of torch and Hugging Face; if it finds no
file, it downloads one: SAM ViT-B of about 375 MB, or with --model another size. With --to it looks in DIR alone and
downloads the file to DIR, for instance to copy it to a machine without internet access.
"""

import argparse
import shlex
from pathlib import Path

HELP = "find or download SAM's weights and check them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        choices=("vit_b", "vit_l", "vit_h"),
        help="size of SAM's encoder; default vit_b, or the size of the file that TPMAMBA_SAM_CHECKPOINT names",
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="download into this folder instead of torch's cache")


def run(args: argparse.Namespace) -> int:
    from nnunetv2_tpmamba.files import sha256
    from nnunetv2_tpmamba.networks.sam import download
    from nnunetv2_tpmamba.networks.sam.known import identify_file
    from nnunetv2_tpmamba.networks.sam.models import MODELS, VIT_B
    from nnunetv2_tpmamba.networks.sam.weights import read_sam_checkpoint, read_sam_checkpoint_of_any_size

    model = MODELS[args.model] if args.model else VIT_B
    if args.to is None:
        path = download.find_sam_checkpoint(model).absolute()
    else:
        path = download.download_sam_checkpoint(model, args.to).absolute()
    if args.model:
        weights = read_sam_checkpoint(path, model.config)
    else:
        model, weights = read_sam_checkpoint_of_any_size(path)
    encoder = identify_file(path, weights, model)
    print(f"file:   {path}")
    print(f"size:   {path.stat().st_size} bytes")
    print(f"sha256: {sha256(path)}")
    print(f"name:   {encoder.name}" + (f", {encoder.licence}" if encoder.licence else ""))
    print(f"check:  {model.title}, all {len(weights)} tensors of the image encoder are there and finite")
    print(f"holds:  tensors of the SHA-256 {encoder.sha256}, the same in every layout")
    print(f"for:    -tr {model.trainer}")
    if args.to is not None:
        print("\nTo use this file, also after copying it elsewhere, set its path:")
        print(f"export {download.ENVIRONMENT_VARIABLE}={shlex.quote(str(path))}")
    return 0
