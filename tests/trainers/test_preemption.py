"""A training that a signal stops, in this process; tests/integration/test_resume.py stops nnU-Net's command."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_trainer import batch, nnUNetTrainerTPMamba_tiny
from torch import distributed

from nnunetv2_tpmamba.config import PREEMPTED
from nnunetv2_tpmamba.trainers import preemption

CURVES = ("train_losses", "val_losses", "ema_fg_dice", "lrs")
STOPS = {  # epoch and place of a signal, and what is said of it
    (0, "train_step"): "in epoch 0; checkpoint_latest.pth holds the 0 epochs before it",
    (1, "validation_step"): "in epoch 1; checkpoint_latest.pth holds the 1 epoch before it",
    (1, "on_epoch_end"): "in epoch 2; checkpoint_latest.pth holds the 2 epochs before it",
    (2, "train_step"): "in epoch 2; checkpoint_latest.pth holds the 2 epochs before it",
    (3, "on_train_end"): "after the last epoch",
}


class nnUNetTrainerTPMamba_tiny_stopped(nnUNetTrainerTPMamba_tiny):
    """Random numbers depend on the epoch alone, and a signal comes in one method that nnU-Net calls."""

    testbed = replace(nnUNetTrainerTPMamba_tiny.testbed, initial_lr=1e-2)
    stop_at = None
    signal = signal.SIGUSR1

    def on_train_start(self):
        super().on_train_start()
        self.logger.plot_progress_png = lambda folder: None  # it takes longer than such an epoch

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        np.random.seed(self.current_epoch)
        torch.manual_seed(self.current_epoch)

    def signal_in(self, place):
        if self.stop_at == (self.current_epoch, place):
            self.stop_at = None
            os.kill(os.getpid(), self.signal)

    def train_step(self, batch):
        self.signal_in("train_step")
        return super().train_step(batch)

    def validation_step(self, batch):
        self.signal_in("validation_step")
        return super().validation_step(batch)

    def on_epoch_end(self):
        self.signal_in("on_epoch_end")
        super().on_epoch_end()

    def on_train_end(self):
        self.signal_in("on_train_end")
        super().on_train_end()


def last_line(made):
    return [line for line in Path(made.log_file).read_text().splitlines() if line.strip()][-1]


def train(make, results, stop_at=None, **attributes):
    """Train into a folder of its own, from the last checkpoint there; return the trainer, which must end as told."""
    torch.manual_seed(0)
    made = make(nnUNetTrainerTPMamba_tiny_stopped)
    made.output_folder = str(results)
    results.mkdir(exist_ok=True)
    if (latest := results / "checkpoint_latest.pth").exists():
        made.load_checkpoint(str(latest))
    for name, value in {"stop_at": stop_at, **attributes}.items():
        setattr(made, name, value)
    if stop_at is None:
        made.run_training()
    else:
        with pytest.raises(SystemExit) as ended:
            made.run_training()
        assert ended.value.code == PREEMPTED
    return made


def test_stopped_anywhere_and_continued_it_ends_as_if_it_had_not_been(make, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)]
    train(make, tmp_path / "straight")
    said = {}
    for i, place in enumerate(STOPS):
        number = (signal.SIGUSR1, signal.SIGTERM)[i % 2]
        line = last_line(train(make, tmp_path / "stopped", place, signal=number))
        assert f": Stopped by {number.name} {STOPS[place]}" in line
        assert "continue with --c" in line
        said[place] = line
    straight, stopped = (
        torch.load(tmp_path / name / "checkpoint_final.pth", weights_only=False) for name in ("straight", "stopped")
    )
    for part in ("network_weights", "optimizer_state"):
        torch.testing.assert_close(stopped[part], straight[part], rtol=0, atol=0)
    for part in ("current_epoch", "_best_ema", *CURVES):
        one, other = (x[part] if part in x else x["logging"][part] for x in (stopped, straight))
        assert one == other, part
    assert sorted(path.name for path in (tmp_path / "stopped").glob("*.pth")) == [
        "checkpoint_best.pth",
        "checkpoint_final.pth",
    ]
    assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)] == before


def test_without_checkpoints_it_says_that_nothing_is_saved(make, tmp_path):
    made = train(make, tmp_path / "results", (0, "train_step"), disable_checkpointing=True)
    assert "in epoch 0; nothing was saved, because checkpoints are switched off" in last_line(made)
    assert not list(tmp_path.rglob("*.pth"))


def test_of_several_nodes_one_process_writes_checkpoints(make, monkeypatch):
    made = make()
    made.is_ddp, made.local_rank = True, 0  # as nnU-Net's checks see the first process of every node
    monkeypatch.setattr(distributed, "get_rank", lambda: 4)
    made.save_checkpoint(f"{made.output_folder}/checkpoint_final.pth")
    assert not list(Path(made.output_folder).glob("*.pth"))


def test_what_is_kept_of_an_epoch_is_what_trains(make):
    made = make()
    made.train_step(batch())
    kept, optimizer, _ = preemption.EpochStart(made.network, made.optimizer, None)._kept
    trained = [p for p in made.network.parameters() if p.requires_grad]
    assert [x.shape for x in kept] == [p.shape for p in trained]
    assert 0 < sum(p.numel() for p in trained) < sum(p.numel() for p in made.network.parameters())
    moments = [state["exp_avg"] for state in optimizer["state"].values()]
    assert {x.data_ptr() for x in moments}.isdisjoint(s["exp_avg"].data_ptr() for s in made.optimizer.state.values())
