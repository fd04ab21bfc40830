"""nnU-Net's logging to Weights & Biases, offline, of a training that is stopped, continued and stopped again."""

import json
import struct

import pytest
from support.forked_training import forked_training
from support.nnunet import model_folder, train_command
from support.raw_datasets import write_raw_dataset

from nnunetv2_tpmamba.config import PREEMPTED

NAME = "Dataset905_Blobs"
TRAINER = "nnUNetTrainerTPMamba_killed"  # five epochs
OFFLINE = {"nnUNet_wandb_enabled": "1", "nnUNet_wandb_mode": "offline"}
STATUS = {"1 train_step 0 SIGUSR1": PREEMPTED, "5 validation 0 SIGTERM": PREEMPTED, "": 0}
BLOCK = 32768  # bytes, of LevelDB's log


def records(file):
    """The records of a W&B file: a header of 7 bytes, then LevelDB's log, a record in one or more pieces."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, pieces = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if -at % BLOCK < 7:  # no header fits into what is left of the block
            at += -at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        pieces += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last piece
            yield Record.FromString(pieces)
            pieces = b""


def read(file):
    """Of one run: the losses by epoch, the summary, and the exit status."""
    losses, summary, status = {}, {}, None
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            values = {(item.key or ".".join(item.nested_key)): item.value_json for item in record.history.item}
            if "train_losses" in values:
                losses[record.history.step.num] = json.loads(values["train_losses"])
        elif kind == "summary":
            for item in record.summary.update:
                summary[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
        elif kind == "exit":
            status = record.exit.exit_code
    return losses, summary, status


@pytest.mark.integration
def test_every_epoch_and_the_validation_are_logged_under_one_name(nnunet, tmp_path):
    pytest.importorskip("wandb")
    write_raw_dataset(nnunet.raw / NAME, [f"case{i}" for i in range(5)], (16, 20, 24), (3.0, 2.0, 2.0))
    nnunet.plan(NAME)
    log = tmp_path / "log.txt"
    with forked_training(nnunet) as train:
        for kill_at, expected in STATUS.items():
            status, left = train(train_command(NAME, TRAINER, "--c"), log, **OFFLINE, KILL_AT=kill_at)
            assert (status, left) == (expected, False), log.read_text()[-6000:]
    folder = model_folder(nnunet.results, NAME, TRAINER) / "fold_0" / "wandb"
    files = sorted(folder.glob("offline-run-*/run-*.wandb"))
    assert len({file.name for file in files}) == 1  # W&B joins what has one name
    (first, second, last) = map(read, files)
    assert (list(first[0]), list(second[0]), list(last[0])) == ([0], [1, 2, 3, 4], [])
    assert all(loss < 2 for loss in (first[0] | second[0]).values())
    assert 0 <= last[1]["final_val/foreground_dice"] <= 1
    assert [status for _, _, status in (first, second, last)] == list(STATUS.values())
