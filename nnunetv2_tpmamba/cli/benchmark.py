"""Measure speed and memory of SAM's encoder, the scan, the whole network and prediction, and count operations.

Each is measured beside its usual alternative: timm's blocks, a step loop or autograd in PyTorch, nnU-Net's own network.
Weights and images are random, so neither data nor SAM's file is needed. On two CPU cores this takes about twenty
minutes; --only chooses parts. The part rows, a training step of every row of the paper's tables, takes much longer and
is measured only when it is named. Results are written after every task, so an interrupted run keeps its finished tasks.

--gpu-report does something else: on a machine with an NVIDIA GPU it tries and measures in 8 minutes what this package
has not been shown to do on one, and writes a report to be sent back.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_tpmamba.benchmark import PARTS, PARTS_BY_DEFAULT
from nnunetv2_tpmamba.benchmark.results_file import ResultsFile, as_json
from nnunetv2_tpmamba.gpu_report.catalogue import MINUTES
from nnunetv2_tpmamba.gpu_report.catalogue import PARTS as REPORTED

from .console import show_progress, termination_as_interrupt
from .options import positive

if TYPE_CHECKING:
    from nnunetv2_tpmamba.benchmark.task import Result

HELP = "measure speed and memory beside timm's encoder and nnU-Net's own network"
OUT = "tpmamba_benchmark"
REPEATS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to measure (cuda if there is a CUDA device)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to this file")
    parser.add_argument(
        "--compare", type=Path, metavar="OLD", help="show the ratios to the results in this older file of --json"
    )
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
        "-tr",
        nargs="+",
        default=[],
        metavar="T",
        help="trainers that the part rows measures, or all of them (those of the paper's tables)",
    )
    parser.add_argument(
        "--repeats",
        type=positive,
        default=REPEATS,
        metavar="N",
        help=f"at most N calls; their median counts ({REPEATS})",
    )
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try this command; the times mean nothing")
    parser.add_argument(
        "--gpu-report", type=Path, metavar="DIR", help="write the report of what runs on this GPU; DIR is new or empty"
    )
    parser.add_argument(
        "--minutes", type=positive, metavar="N", help=f"with --gpu-report: how long it may take ({MINUTES:g})"
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=[part.name for part in REPORTED],
        default=[],
        metavar="PART",
        help=f"with --gpu-report: only these, and what they need, of {', '.join(part.name for part in REPORTED)} (all)",
    )


def run(args: argparse.Namespace) -> int:
    if args.gpu_report is not None:
        return report_gpu(args)
    if args.minutes is not None:
        raise ValueError("--minutes limits --gpu-report, which is not given")
    if args.parts:
        raise ValueError("--parts chooses parts of --gpu-report, which is not given; --only chooses the benchmark's")
    if args.tr and "rows" not in args.only:
        raise ValueError("-tr names trainers for the part rows, which is not measured; add --only rows")
    files = {"table": args.out / "benchmark.md", "picture": args.out / "benchmark.png"}
    files |= {"numbers": args.json} if args.json else {}
    old = ResultsFile.read(args.compare) if args.compare else None
    prepare(list(files.values()))

    import torch  # takes seconds, so the arguments are checked first

    from nnunetv2_tpmamba.benchmark import report
    from nnunetv2_tpmamba.benchmark.catalogue import tasks_of
    from nnunetv2_tpmamba.benchmark.load import load_warnings
    from nnunetv2_tpmamba.benchmark.measure import run_task
    from nnunetv2_tpmamba.benchmark.rows import left_out
    from nnunetv2_tpmamba.benchmark.setting import Setting

    has_cuda = torch.cuda.is_available()
    if args.device == "cuda" and not has_cuda:
        raise RuntimeError("--device cuda: PyTorch finds no CUDA device here; leave the option out to measure the CPU")
    torch.backends.cudnn.benchmark = True  # as in nnU-Net
    setting = Setting.of(torch.device(args.device or ("cuda" if has_cuda else "cpu")), args.small, args.tr)
    facts = report.about(setting, command_line(args))
    tasks = tasks_of(args.only, setting)
    warnings = load_warnings(facts)
    if old is not None:
        old.check_has_some_of(tasks)
        facts["compared with"] = f"{old.name}, of {old.about.get('date', 'an unknown date')}"
        warnings += old.warnings(facts)
    print(f"{len(tasks)} tasks on {facts['device']}, {facts['precision']}, sizes: {facts['sizes']}", flush=True)
    if "rows" in args.only and not args.tr:
        print(left_out())
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)

    results: list[Result] = []
    interrupted = False
    try:
        with termination_as_interrupt():
            for i, task in enumerate(tasks, 1):
                print(f"[{i}/{len(tasks)}] {task.part}: {task.title}", flush=True)
                new = run_task(task, setting.device, args.repeats, on_call=show_progress)
                new = old.beside(new) if old is not None else new
                show_progress("")
                results += new
                for result in new:
                    print(f"  {report.summary(result)}", flush=True)
                write(results, facts, files, complete=i == len(tasks), warnings=warnings)
    except KeyboardInterrupt:
        interrupted = True
        show_progress("")
    return conclude(results, files, interrupted)


def report_gpu(args: argparse.Namespace) -> int:
    """Write the report of a GPU; the exit status is 0 if some part finished."""
    check_alone(args)
    import torch  # takes seconds, so the arguments are checked first

    from nnunetv2_tpmamba.gpu_report.catalogue import chosen
    from nnunetv2_tpmamba.gpu_report.process import FINISHED
    from nnunetv2_tpmamba.gpu_report.report import JSON, LOGS, MARKDOWN, claim, write_report

    device = args.device or "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            "--gpu-report: PyTorch finds no CUDA device here. Give this command on a machine with an NVIDIA GPU, its "
            "driver and a torch with CUDA; nnUNetv2_tpmamba doctor says what is missing"
        )
    claim(args.gpu_report, log=partial(print, flush=True))
    with termination_as_interrupt():
        outcomes = write_report(
            args.gpu_report,
            args.minutes or MINUTES,
            device,
            args.small,
            log=partial(print, flush=True),
            show=show_progress,
            parts=chosen(args.parts),
        )
    finished = sum(outcome.state == FINISHED for outcome in outcomes)
    print(f"{finished} of {len(outcomes)} parts finished; please read the report, then send these to the maintainers:")
    for name in (MARKDOWN, JSON, LOGS):
        print(args.gpu_report / name)
    return 0 if finished else 1


def check_alone(args: argparse.Namespace) -> None:
    """Refuse options that the report does not have."""
    others = {
        "--only": args.only != PARTS_BY_DEFAULT,
        "-tr": bool(args.tr),
        "--json": args.json is not None,
        "--compare": args.compare is not None,
        "--out": args.out != Path(OUT),
        "--repeats": args.repeats != REPEATS,
    }
    if given := [name for name, is_given in others.items() if is_given]:
        raise ValueError(f"--gpu-report measures what it always measures: leave out {', '.join(given)}")
    if args.device == "cpu" and not args.small:
        raise ValueError("--gpu-report is for a GPU; with --device cpu it can only be tried, with --small")


def command_line(args: argparse.Namespace) -> list[str]:
    """The command line that repeats this measurement."""
    words = ["nnUNetv2_tpmamba", "benchmark"]
    words += ["--device", args.device] if args.device else []
    words += ["--only", *args.only] if args.only != PARTS_BY_DEFAULT else []
    words += ["-tr", *args.tr] if args.tr else []
    words += ["--compare", args.compare.name] if args.compare else []
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


def write(
    results: list["Result"], facts: dict[str, str], files: dict[str, Path], complete: bool, warnings: list[str]
) -> None:
    """Write the results so far; ``complete`` says that no task is left."""
    from nnunetv2_tpmamba.benchmark import chart, report

    files["table"].write_text(report.as_markdown(results, facts, complete, warnings), encoding="utf-8")
    chart.draw(results, facts, files["picture"])
    if "numbers" in files:
        files["numbers"].write_text(as_json(results, facts, complete, warnings), encoding="utf-8")


def conclude(results: list["Result"], files: dict[str, Path], interrupted: bool) -> int:
    """Say what failed and where the results are; return the exit status."""
    measured = [result for result in results if not result.error]
    failed = len(results) - len(measured)
    if failed:
        print(f"{failed} of {len(results)} results failed; the table has their errors.")
    for what, file in files.items():
        if results and file.exists():
            print(f"{what}: {file}")
    if interrupted:
        kept = "the tasks above are kept" if results else "nothing had been measured yet"
        print(f"nnUNetv2_tpmamba benchmark: interrupted; {kept}", file=sys.stderr)
    return 0 if measured and not interrupted else 1
