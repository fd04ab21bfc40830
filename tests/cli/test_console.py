"""What a verb with several steps shows and keeps, and that no process of its commands outlives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnunetv2_tpmamba.cli import console
from nnunetv2_tpmamba.cli.console import Console


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Make a console command from Python code."""

    def install(code: str) -> str:
        script = tmp_path / "program"
        script.write_text(f"#!{sys.executable}\n{code}")
        script.chmod(0o755)
        monkeypatch.setattr(console, "find_program", lambda name: str(script))
        return "program"

    return install


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def wait_for(path: Path) -> str:
    for _ in range(200):
        if path.is_file() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise TimeoutError(path)


def test_steps_commands_and_their_output_are_shown_and_kept(tmp_path, capsys, program):
    name = program("import os, sys; print('out', os.environ['GREETING'], sys.argv[1]); print('err', file=sys.stderr)")
    with Console(tmp_path / "log", steps=2) as shown:
        shown.step("First")
        shown.run([name, "a b"], {**os.environ, "GREETING": "hello"})
        shown.step("Second")
    text = capsys.readouterr().out
    assert "[1/2] First\n$ program 'a b'\n" in text
    assert "out hello a b\n" in text
    assert "err\n" in text
    assert text.endswith("[2/2] Second\n")
    assert (tmp_path / "log").read_text() == text


def test_output_is_shown_while_the_command_runs(tmp_path, program):
    """Also a progress bar, which ends no line."""
    done = tmp_path / "done"
    name = program(
        "import pathlib, sys, time\n"
        "sys.stdout.write('half \\r'); sys.stdout.flush()\n"
        f"done = pathlib.Path({str(done)!r})\n"
        "while not done.exists(): time.sleep(0.01)\n"
    )
    seen = []

    class Screen(Console):
        def _write(self, text):
            seen.append(text)
            if "half" in text:
                done.touch()

    with Screen(tmp_path / "log", steps=1) as shown:
        shown.step("Only")
        shown.run([name], os.environ)
    assert "half \r" in seen


def test_a_failed_command_is_named_with_its_last_words(tmp_path, program):
    name = program("import sys\nfor i in range(50): print('line', i)\nsys.exit(3)")
    with Console(tmp_path / "log", steps=1) as shown:
        shown.step("Train")
        with pytest.raises(RuntimeError, match=r"step 1 \(Train\) failed: program ended with status 3.*log") as failure:
            shown.run([name], os.environ)
    assert str(failure.value).endswith("line 48\n  line 49")
    assert "line 41\n" not in str(failure.value)


def test_a_missing_command_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="nnUNetv2_nothing is neither in"):
        console.find_program("nnUNetv2_nothing")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_command_and_its_workers(tmp_path, signal_number):
    worker, parent = tmp_path / "worker", tmp_path / "parent"
    command = tmp_path / "program"
    command.write_text(
        f"#!{sys.executable}\nimport os, pathlib, subprocess\n"
        f"child = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(worker)!r}).write_text(str(child.pid))\n"
        f"pathlib.Path({str(parent)!r}).write_text(str(os.getpid()))\n"
        "child.wait()\n"
    )
    command.chmod(0o755)
    main = (
        "import os, pathlib, signal; from nnunetv2_tpmamba.cli import console\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore\n"
        f"console.find_program = lambda name: {str(command)!r}\n"
        f"with console.Console(pathlib.Path({str(tmp_path / 'log')!r}), steps=1) as shown:\n"
        "    shown.step('Only'); shown.run(['program'], os.environ)\n"
    )
    with subprocess.Popen([sys.executable, "-c", main], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as ours:
        pids = [int(wait_for(path)) for path in (worker, parent)]
        assert all(map(is_running, pids))
        ours.send_signal(signal_number)
        assert b"KeyboardInterrupt" in ours.communicate(timeout=30)[1]
    for _ in range(100):  # the system may take a moment to remove a process that was killed
        if not any(map(is_running, pids)):
            break
        time.sleep(0.1)
    assert not any(map(is_running, pids))
