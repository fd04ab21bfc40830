import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunetv2_tpmamba.data.few_shot import Fold
from nnunetv2_tpmamba.study.finished import largest_finished
from nnunetv2_tpmamba.study.plan import Study

ROWS = ("A", "B", "C")


def study_of(folds=3, repeats=1):
    return Study(
        "Dataset001_X",
        ROWS,
        tuple(Fold(index, 1, ("a",), ("b",), ()) for index in range(folds)),
        seed=0,
        repeats=repeats,
        configuration="3d_fullres",
        plans="nnUNetPlans",
        versions={},
    )


def finished_of(study, keys):
    return {each for each in study.trainings() if (each.row, str(each.fold.fold), each.repeat) in keys}


def keys_of(text, repeat=1):
    """Finished trainings from text such as "A0 A1 B0"."""
    return {(key[0], key[1], repeat) for key in text.split()}


@pytest.mark.parametrize(
    ("text", "rows", "folds"),
    [
        ("A0 A1 A2 B0 B1 B2 C0 C1 C2", "ABC", "012"),
        ("A0 A1 A2 B0 B1 B2", "AB", "012"),
        ("A0 A1 A2 B0", "A", "012"),
        ("A0 A1 B0", "AB", "0"),  # two trainings either way: rather two rows
        ("A0 B1 C1", "BC", "1"),
        ("A0 A1 B1 B2 C1", "ABC", "1"),
    ],
)
def test_it_is_the_largest_part_of_which_every_row_has_every_fold(text, rows, folds):
    study = study_of()
    found = largest_finished(study, finished_of(study, keys_of(text)))
    assert (found.rows, found.folds, found.repeats) == (tuple(rows), tuple(folds), 1)


def test_what_is_left_out_is_named():
    study = study_of(folds=2)
    assert largest_finished(study, finished_of(study, keys_of("A0 A1 B0 B1 C0"))).left_out == (
        "Left out, because not finished: C fold 1.",
        "Left out, because finished, but other rows have not finished as much: C fold 0.",
    )
    assert largest_finished(study, set(study.trainings())).left_out == ()


def test_repeats_count_when_all_rows_have_them():
    study = study_of(folds=2, repeats=2)
    both = keys_of("A0 A1 B0 B1") | keys_of("A0 A1 B0 B1", repeat=2)
    assert largest_finished(study, finished_of(study, both)).repeats == 2
    one = largest_finished(study, finished_of(study, both - {("B", "1", 2), ("B", "0", 2)}))
    assert (one.rows, one.folds, one.repeats) == (("A", "B"), ("0", "1"), 1)
    assert "A folds 0, 1 of repeat 2" in one.left_out[1]


def test_nothing_is_finished():
    with pytest.raises(ValueError, match="no training of the study is finished; nnUNetv2_tpmamba study status"):
        largest_finished(study_of(), set())
    study = study_of(repeats=2)
    with pytest.raises(ValueError, match="of no training of the study the first repeat is finished"):
        largest_finished(study, finished_of(study, keys_of("A0 B0", repeat=2)))


@given(st.sets(st.sampled_from(study_of(repeats=2).trainings()), min_size=1))
def test_no_other_part_is_larger(finished):
    study = study_of(repeats=2)
    keys = {(each.row, str(each.fold.fold), each.repeat) for each in finished}

    def whole(rows, folds, repeats):
        return all((*each, 1 + repeat) in keys for each in itertools.product(rows, folds) for repeat in range(repeats))

    parts = [
        (len(rows) * len(folds) * repeats, len(rows))
        for repeats in (1, 2)
        for number in range(1, 4)
        for rows in itertools.combinations(ROWS, number)
        for size in range(1, 4)
        for folds in itertools.combinations("012", size)
        if whole(rows, folds, repeats)
    ]
    if not parts:
        return
    found = largest_finished(study, finished)
    assert whole(found.rows, found.folds, found.repeats)
    assert (len(found.rows) * len(found.folds) * found.repeats, len(found.rows)) == max(parts)
