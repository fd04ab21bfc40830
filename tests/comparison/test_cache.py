"""Scores are kept by the content of the files, read again, and made again where what is kept cannot be used."""

import json
import math

import pytest
from support.label_maps import blob

from nnunetv2_tpmamba.comparison.cache import cache_key, score_pairs
from nnunetv2_tpmamba.comparison.metrics import Pair


@pytest.mark.parametrize(
    ("content", "message"), [(None, "does not exist"), (b"", "is empty"), (b"\x1f\x8b no image", "cannot be read")]
)
def test_damaged_files_are_named_and_the_rest_is_kept(pair, tmp_path, content, message):
    good = pair(blob(1), blob(2), {"one": 1})
    damaged = tmp_path / "damaged.nii.gz"
    if content is not None:
        damaged.write_bytes(content)
    bad = Pair(good.truth, damaged, *(getattr(good, n) for n in ("classes", "ignore_label", "tolerance", "reader")))
    with pytest.raises(ValueError, match=f"1 of 2 predictions cannot be compared:\n.*damaged.nii.gz {message}"):
        score_pairs([bad, good], 1, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.json"))) == 1


def test_a_damaged_truth_is_named_once(pair, tmp_path):
    good = pair(blob(1), blob(2))
    good.truth.write_bytes(b"")
    with pytest.raises(ValueError, match="3 of 3 predictions cannot be compared") as error:
        score_pairs([good] * 3, 1, tmp_path / "cache")
    assert str(error.value).count("t.nii.gz is empty") == 1


@pytest.mark.parametrize("content", ["[1]", "{", "null", '{"one": 1}', '{"one": {"Dice": 1}}', '{"two": {}}'])
def test_what_is_no_kept_result_is_made_again(pair, tmp_path, content):
    made = pair(blob(1), blob(2), {"one": 1})
    (first,) = score_pairs([made], 1, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob("*.json")
    kept.write_text(content)
    assert score_pairs([made], 1, tmp_path / "cache") == [first]
    assert json.loads(kept.read_text()) == first


def test_the_second_call_reads_what_the_first_has_found(pair, tmp_path):
    made = pair(blob(1), blob(2), {"one": 1})
    (first,) = score_pairs([made], 1, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob("*.json")
    assert json.loads(kept.read_text()) == first
    other = {"one": dict.fromkeys(first["one"], 0.25) | {"HD95": math.inf}}
    kept.write_text(json.dumps(other))
    assert score_pairs([made], 1, tmp_path / "cache") == [other]


def test_the_cache_key_follows_content_and_question(pair, tmp_path):
    made = pair(blob(1), blob(2))
    seen = {cache_key(made), cache_key(pair(blob(1), blob(3))), cache_key(pair(blob(4), blob(2)))}
    seen |= {cache_key(pair(blob(1), blob(2), tolerance=2.0)), cache_key(pair(blob(1), blob(2), ignore_label=3))}
    assert len(seen) == 5
    assert cache_key(pair(blob(1), blob(2))) == cache_key(made)
