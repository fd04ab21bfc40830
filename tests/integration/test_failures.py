"""What goes wrong on real machines, done for real to nnU-Net's commands: disks, users, killed processes, odd paths."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from support.disks import mount, mounted, small_disk
from support.images import read_array, write_image
from support.nnunet import NnUNet, installed, model_folder, predict_command, train_command
from support.raw_datasets import write_raw_dataset

from nnunetv2_tpmamba.data.manifest import CASE_ENDINGS, Manifest
from nnunetv2_tpmamba.trained.checkpoints import load_without_code

pytestmark = pytest.mark.integration

NAME = "Dataset904_Blobs"
TRAINER = "nnUNetTrainerTPMamba_killed"  # where nothing tells it to die: five epochs, a checkpoint after each
TRAIN = train_command(NAME, TRAINER)
PREPROCESS = ("nnUNetv2_tpmamba", "preprocess", "-d", NAME, "-np", 1)
NOBODY = 65534


def plan(nnunet):
    write_raw_dataset(nnunet.raw / NAME, [f"case{i}" for i in range(5)], (16, 20, 24), (3.0, 2.0, 2.0))
    nnunet.plan(NAME)


@pytest.fixture(scope="module")
def trained(module_nnunet):
    plan(module_nnunet)
    module_nnunet.run(*TRAIN)
    return module_nnunet


def fold_folder(results):
    return model_folder(results, NAME, TRAINER) / "fold_0"


def predict(images, output, *options):
    return predict_command(NAME, TRAINER, images, output, "--disable_tta", *options)


def write_images(folder, count, shape=(20, 40, 40)):
    folder.mkdir()
    for number in range(count):
        array = np.random.default_rng(number).normal(0, 100, shape)
        write_image(array, folder / f"image{number}_0000.nii.gz")
    return folder


class TestFullDisk:
    def test_while_a_checkpoint_is_written(self, trained, tmp_path):
        """Room for two files: the third, of the second epoch, cannot be written."""
        size = (fold_folder(trained.results) / "checkpoint_final.pth").stat().st_size
        with small_disk(tmp_path / "results", int(2.6 * size)) as results:
            result = trained.run(*TRAIN, check=False, nnUNet_results=str(results))
            assert result.returncode == 1
            assert re.search(r"checkpoint_(best|latest)\.pth could not be written", result.stderr)
            assert "MB are free there" in result.stderr
            assert "continue with --c" in result.stderr
            for name in ("checkpoint_latest.pth", "checkpoint_best.pth"):
                assert load_without_code(fold_folder(results) / name)["current_epoch"] == 1
            assert not list(results.rglob(".unfinished*"))

            mount("-o", f"remount,size={10 * size}", results)
            result = trained.run(*TRAIN, "--c", nnUNet_results=str(results))
            assert ": Epoch 1\n" in result.stdout
            assert ": Epoch 0\n" not in result.stdout

    def test_while_preprocessing(self, trained, tmp_path):
        with small_disk(tmp_path / "preprocessed", 600_000) as preprocessed:
            shutil.copytree(
                trained.preprocessed / NAME, preprocessed / NAME, ignore=shutil.ignore_patterns("*_tpmamba*")
            )
            result = trained.run(*PREPROCESS, check=False, nnUNet_preprocessed=str(preprocessed))
            assert result.returncode == 1
            (line,) = result.stderr.splitlines()[-1:]
            assert line.startswith("nnUNetv2_tpmamba preprocess: ")
            assert "No space left" in line
            folder = next((preprocessed / NAME).glob("*_tpmamba"))
            finished = {case for case, record in Manifest.read(folder).cases.items() if record}
            assert 0 < len(finished) < 5
            there = {path.name for path in folder.glob("case*")}
            assert there == {f"{case}{ending}" for case in finished for ending in CASE_ENDINGS}
            assert not list((folder / ".tpmamba").glob("staging-*"))

            mount("-o", "remount,size=100000000", preprocessed)
            trained.run(*PREPROCESS, nnUNet_preprocessed=str(preprocessed))
            assert all(Manifest.read(folder).cases.values())


def test_read_only_preprocessed_data_are_trained(trained, tmp_path):
    with mounted(tmp_path / "preprocessed", "--bind", trained.preprocessed) as preprocessed:
        mount("-o", "remount,ro,bind", preprocessed)
        with pytest.raises(OSError, match="Read-only"):
            (preprocessed / "x").touch()
        trained.run(*TRAIN, nnUNet_preprocessed=str(preprocessed), nnUNet_results=str(tmp_path / "results"))
    assert (fold_folder(tmp_path / "results") / "checkpoint_final.pth").is_file()


def test_read_only_preprocessed_data_without_a_split_are_trained(trained, tmp_path):
    """As ``nnUNetv2_tpmamba preprocess`` leaves them; the validation case is that of nnU-Net's own split."""
    copy = shutil.copytree(trained.preprocessed, tmp_path / "copy")
    (copy / NAME / "splits_final.json").unlink()
    with mounted(tmp_path / "preprocessed", "--bind", copy) as preprocessed:
        mount("-o", "remount,ro,bind", preprocessed)
        trained.run(*TRAIN, nnUNet_preprocessed=str(preprocessed), nnUNet_results=str(tmp_path / "results"))
    validated = [
        [path.name for path in (fold_folder(results) / "validation").glob("*.nii.gz")]
        for results in (tmp_path / "results", trained.results)
    ]
    assert len(validated[0]) == 1
    assert validated[0] == validated[1]


def test_two_users_start_at_once_in_one_shared_folder():
    """Both make the same data, in a folder that belongs to their group; each has results of its own."""
    if os.getuid() != 0 or not can_run_as_nobody():
        pytest.skip("needs root, and a Python that others can run")
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder)
        nnunet = NnUNet(shared / "shared")
        plan(nnunet)
        for path in [shared, *shared.rglob("*")]:
            os.chown(path, 0, NOBODY)
            path.chmod(0o2775 if path.is_dir() else 0o664)
        trainings = []
        for user in (0, NOBODY):
            home = Path(folder, f"home{user}")
            home.mkdir()
            os.chown(home, user, NOBODY)
            environment = nnunet.environment | {
                **{"nnUNet_results": str(home), "HOME": str(home), "NUMBA_CACHE_DIR": str(home)},
                **{"TORCHINDUCTOR_CACHE_DIR": str(home), "MPLCONFIGDIR": str(home)},
            }
            with Path(home, "log").open("w") as log:
                trainings.append(
                    subprocess.Popen(
                        installed(*TRAIN),
                        env=environment,
                        stdout=log,
                        stderr=log,
                        user=user,
                        group=NOBODY,
                        umask=0o002,
                        cwd=home,
                    )
                )
        statuses = [training.wait(timeout=500) for training in trainings]
        logs = [Path(folder, f"home{user}", "log").read_text() for user in (0, NOBODY)]
        assert statuses == [0, 0], "\n".join(logs)
        assert sorted("preprocessing 5 of 5 cases" in log for log in logs) == [False, True]


def can_run_as_nobody():
    command = [sys.executable, "-c", "import nnunetv2_tpmamba"]
    try:
        return subprocess.run(command, user=NOBODY, group=NOBODY, cwd="/", check=False).returncode == 0
    except PermissionError:
        return False


def wait_until(condition, process, log, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)


def children(process):
    """The processes it started, without multiprocessing's own helpers."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in pids}
    return [pid for pid, command in commands.items() if "resource_tracker" not in command]


class TestKilledProcesses:
    def test_a_data_worker_dies_in_training(self, trained, tmp_path):
        """As when the system runs out of memory: a message and an exit status, no hang."""
        log = tmp_path / "log"
        process = trained.start(log, *TRAIN, nnUNet_results=str(tmp_path / "results"))
        wait_until(lambda: ": Epoch 0" in log.read_text() and children(process), process, log)
        for child in children(process):
            os.kill(child, signal.SIGKILL)
        assert process.wait(timeout=120) == 1
        assert "a process that made batches was ended from outside, as for lack of memory" in log.read_text()

    def test_prediction_killed_and_continued(self, trained, tmp_path):
        images, log = write_images(tmp_path / "images", 6), tmp_path / "log"
        process = trained.start(log, *predict(images, tmp_path / "out"))
        wait_until(lambda: list((tmp_path / "out").glob("*.nii.gz")), process, log)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        assert 0 < len(list((tmp_path / "out").glob("*.nii.gz"))) < 6
        trained.run(*predict(images, tmp_path / "out", "--continue_prediction"))
        trained.run(*predict(images, tmp_path / "straight"))
        for path in (tmp_path / "straight").glob("*.nii.gz"):
            np.testing.assert_array_equal(read_array(path), read_array(tmp_path / "out" / path.name))


def test_paths_with_spaces_and_unicode_of_200_characters(tmp_path):
    nnunet = NnUNet(tmp_path / f"ein Ordner für 医学 bilder's {'x' * 200}")
    plan(nnunet)
    nnunet.run(*TRAIN)
    images = write_images(nnunet.raw / "neue Bilder", 1)
    nnunet.run(*predict(images, nnunet.results / "aus gabe"))
    assert [path.name for path in (nnunet.results / "aus gabe").glob("*.nii.gz")] == ["image0.nii.gz"]
