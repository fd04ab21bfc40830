"""Run the parts one after the other, and write the report after each of them."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from nnunetv2_tpmamba.benchmark.load import load_warnings
from nnunetv2_tpmamba.benchmark.report import machine
from nnunetv2_tpmamba.files import whole_or_absent

from .catalogue import PARTS, Part, limit_of
from .child import FULL, SMALL
from .notebook import Findings, read_notebook
from .pages import Outcome, as_content, as_markdown
from .privacy import Privacy
from .process import FINISHED, INTERRUPTED, run_limited
from .work import environment

JSON, MARKDOWN, LOGS, WORK = "gpu-report.json", "gpu-report.md", "logs", "work"
SHORTEST = 10.0  # seconds; a part that would have less is not started, because it would end while it imports PyTorch
OPTIONAL = ("triton", "monai", "mamba-ssm", "causal-conv1d", "numpy")
Log = Callable[[str], None]


def claim(folder: Path, log: Log) -> None:
    """Make the folder of the report, or take that of an earlier one.

    Raises:
        ValueError: the folder holds anything else.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--gpu-report {folder} is a file; name a folder")
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if held - {JSON, MARKDOWN, LOGS, WORK}:
        raise ValueError(f"--gpu-report {folder} holds other files; name a new folder")
    if held:
        log(f"{folder} holds an earlier report; it is replaced.")
    for name in held & {LOGS, WORK}:
        shutil.rmtree(folder / name)
    for name in (LOGS, WORK):
        (folder / name).mkdir(parents=True)


def write_report(
    folder: Path,
    minutes: float,
    device: str,
    small: bool = False,
    log: Log = print,
    show: Log = lambda text: None,
    parts: Sequence[Part] = PARTS,
) -> list[Outcome]:
    """Run all parts for ``minutes`` together, and write the report into ``folder`` after each of them.

    Args:
        folder: made or taken by :func:`claim`.
        minutes: which the parts share, see :func:`.catalogue.limit_of`.
        device: cuda; cpu to try the report with small sizes.
        small: tiny sizes, with which nothing is measured that means anything.
        log: is told what happens.
        show: is told how the time passes, many times.
        parts: what to run.

    Raises:
        KeyboardInterrupt: after Ctrl-C; the report holds what was found until then.
    """
    folder = folder.absolute()
    work = folder / WORK
    privacy = Privacy({work: "WORK", folder: "REPORT"})
    facts = describe(minutes, device, small, parts)
    deadline = time.monotonic() + 60 * minutes
    outcomes: list[Outcome] = []
    env = environment(work)
    try:
        for index, part in enumerate(parts):
            left = deadline - time.monotonic()
            limit = limit_of(parts, index, left)
            log(f"[{index + 1}/{len(parts)}] {part.name}: {part.title} (at most {limit:.0f} s, {_minutes(left)} left)")
            outcome = _run(part, limit, outcomes, work, env, device, small, show)
            show("")
            outcomes.append(outcome)
            log(f"  {privacy.clean(outcome.in_words())}")
            for note in outcome.findings.failed_checks:
                log(f"  check failed: {privacy.clean(f'{note.name}: {note.value}')}")
            interrupted = outcome.state == INTERRUPTED
            write_pages(folder, outcomes, facts, privacy, complete=index + 1 == len(parts) and not interrupted)
            if interrupted:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        log(f"  interrupted; what the parts found so far is in {folder / MARKDOWN}")
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return outcomes


def _run(
    part: Part,
    limit: float,
    before: Sequence[Outcome],
    work: Path,
    env: Mapping[str, str],
    device: str,
    small: bool,
    show: Log,
) -> Outcome:
    """Run one part in a process of its own, unless it cannot run."""
    states = {outcome.part.name: outcome.state for outcome in before}
    if part.needs and states.get(part.needs) != FINISHED:
        return Outcome(part, None, Findings(), f"it needs the part {part.needs}, which did not finish")
    if limit < SHORTEST:
        why_not = f"no time was left for it; run it with --parts {part.name}, into another folder"
        return Outcome(part, None, Findings(), why_not)
    notebook = work / f"{part.name}.jsonl"
    command = [sys.executable, "-m", f"{__package__}.child", part.module, str(work), str(notebook)]
    command += [device, str(limit), SMALL if small else FULL]
    ending = run_limited(
        command, env, limit, on_look=lambda seconds: show(f"{part.name}: {seconds:.0f} of at most {limit:.0f} s")
    )
    return Outcome(part, ending, read_notebook(notebook), limit=limit)


def write_pages(
    folder: Path, outcomes: Sequence[Outcome], facts: Mapping[str, str], privacy: Privacy, complete: bool
) -> None:
    """Write both files, and the log of the latest part."""
    latest = outcomes[-1]
    if latest.ending is not None:
        log = privacy.clean(latest.ending.output)
        (folder / LOGS / f"{latest.part.name}.log").write_text(log, encoding="utf-8", errors="replace")
    content = privacy.cleaned(as_content(outcomes, facts, complete))
    pages = {JSON: json.dumps(content, indent=1, allow_nan=False) + "\n"}
    pages[MARKDOWN] = privacy.clean(as_markdown(outcomes, facts, complete))
    for name, text in pages.items():
        with whole_or_absent(folder / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8", errors="replace")


def describe(minutes: float, device: str, small: bool, parts: Sequence[Part]) -> dict[str, str]:
    """With what the report is made; it does not touch the card, which a broken driver could block for ever."""
    which = "" if len(parts) == len(PARTS) else f" --parts {' '.join(part.name for part in parts)}"
    facts = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"nnUNetv2_tpmamba benchmark --gpu-report{which}, {minutes:g} minutes at most",
        "sizes": "TINY (--small): a trial of the command, the numbers mean nothing" if small else "full",
        "device": device,
        **machine(),
        "main memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
    }
    for name in OPTIONAL:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    return facts | {f"warning {i}": text for i, text in enumerate(load_warnings(facts), 1)}


def _minutes(seconds: float) -> str:
    return f"{max(0.0, seconds) / 60:.1f} minutes"
