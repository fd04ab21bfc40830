"""Measure speed and memory of SAM's encoder, the scan, the whole network and prediction, and count operations.

Each is measured beside its usual alternative: timm's blocks, a step loop or autograd in PyTorch, nnU-Net's own network.
Weights and images are random, so neither data nor SAM's file is needed. On two CPU cores this takes about twenty
minutes; --only chooses parts. The part rows, a training step of every row of the paper's tables, takes much longer and
is measured only when it is named. Results are written after every task, so an interrupted run keeps its finished tasks.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_tpmamba.benchmark import PARTS, PARTS_BY_DEFAULT

from .console import show_progress, termination_as_interrupt
from .options import positive

if TYPE_CHECKING:
    from nnunetv2_tpmamba.benchmark.task import Row

HELP = "measure speed and memory beside timm's encoder and nnU-Net's own network"
OUT = "tpmamba_benchmark"
REPEATS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to measure (cuda if there is a CUDA device)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to this file")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(OUT),
        metavar="DIR",
        help=f"folder for benchmark.md and benchmark.png ({OUT})",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=PARTS_BY_DEFAULT,
        metavar="PART",
        help=f"measure only some of {', '.join(PARTS)} (all but rows)",
    )
    parser.add_argument(
        "-tr", nargs="+", default=[], metavar="T", help="trainers that the part rows measures (the paper's tables)"
    )
    parser.add_argument(
        "--repeats",
        type=positive,
        default=REPEATS,
        metavar="N",
        help=f"at most N calls; their median counts ({REPEATS})",
    )
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try this command; the times mean nothing")


def run(args: argparse.Namespace) -> int:
    if args.tr and "rows" not in args.only:
        raise ValueError("-tr names trainers for the part rows, which is not measured; add --only rows")
    files = {"table": args.out / "benchmark.md", "picture": args.out / "benchmark.png"}
    files |= {"numbers": args.json} if args.json else {}
    prepare(list(files.values()))

    import torch  # takes seconds, so the arguments are checked first

    from nnunetv2_tpmamba.benchmark import report
    from nnunetv2_tpmamba.benchmark.catalogue import tasks_of
    from nnunetv2_tpmamba.benchmark.measure import run_task
    from nnunetv2_tpmamba.benchmark.setting import Setting

    has_cuda = torch.cuda.is_available()
    if args.device == "cuda" and not has_cuda:
        raise RuntimeError("--device cuda: PyTorch finds no CUDA device here; leave the option out to measure the CPU")
    torch.backends.cudnn.benchmark = True  # as in nnU-Net
    setting = Setting.of(torch.device(args.device or ("cuda" if has_cuda else "cpu")), args.small, args.tr)
    facts = report.about(setting, command_line(args))
    tasks = tasks_of(args.only, setting)
    print(f"{len(tasks)} tasks on {facts['device']}, {facts['precision']}, sizes: {facts['sizes']}", flush=True)

    rows: list[Row] = []
    interrupted = False
    try:
        with termination_as_interrupt():
            for i, task in enumerate(tasks, 1):
                print(f"[{i}/{len(tasks)}] {task.part}: {task.title}", flush=True)
                new = run_task(task, setting.device, args.repeats, on_call=show_progress)
                show_progress("")
                rows += new
                for row in new:
                    print(f"  {report.summary(row)}", flush=True)
                write(rows, facts, files, complete=i == len(tasks))
    except KeyboardInterrupt:
        interrupted = True
        show_progress("")
    return conclude(rows, files, interrupted)


def command_line(args: argparse.Namespace) -> list[str]:
    """The command line that repeats this measurement."""
    words = ["nnUNetv2_tpmamba", "benchmark"]
    words += ["--device", args.device] if args.device else []
    words += ["--only", *args.only] if args.only != PARTS_BY_DEFAULT else []
    words += ["-tr", *args.tr] if args.tr else []
    words += ["--repeats", str(args.repeats)] if args.repeats != REPEATS else []
    return [*words, "--small"] if args.small else words


def prepare(files: list[Path]) -> None:
    """Make the folders and say which files will be replaced, before anything takes long."""
    for file in files:
        if file.is_dir():
            raise ValueError(f"{file} is a folder; name a file")
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            print(f"{file} exists; it is replaced when the first task is done.", flush=True)


def write(rows: list["Row"], facts: dict[str, str], files: dict[str, Path], complete: bool) -> None:
    """Write the results so far; ``complete`` says that no task is left."""
    from nnunetv2_tpmamba.benchmark import chart, report

    files["table"].write_text(report.as_markdown(rows, facts, complete), encoding="utf-8")
    chart.draw(rows, facts, files["picture"])
    if "numbers" in files:
        files["numbers"].write_text(report.as_json(rows, facts, complete), encoding="utf-8")


def conclude(rows: list["Row"], files: dict[str, Path], interrupted: bool) -> int:
    """Say what failed and where the results are; return the exit status."""
    measured = [row for row in rows if not row.error]
    failed = len(rows) - len(measured)
    if failed:
        print(f"{failed} of {len(rows)} rows failed; the table has their errors.")
    for what, file in files.items():
        if rows and file.exists():
            print(f"{what}: {file}")
    if interrupted:
        kept = "the tasks above are kept" if rows else "nothing had been measured yet"
        print(f"nnUNetv2_tpmamba benchmark: interrupted; {kept}", file=sys.stderr)
    return 0 if measured and not interrupted else 1
