"""Thousands of damaged plans: each is derived as meant, or refused with a message that says what is wrong."""

import json
import re
import warnings
from copy import deepcopy

from hypothesis import given, settings
from hypothesis import strategies as st
from support.damage import EXAMPLES
from support.plans import DATASET_JSON, stock_plans

from nnunetv2_tpmamba.data.plans import derive_plans

PLANS_EXAMPLES = 3000
RAW_ERROR = re.compile(r"KeyError|TypeError|AttributeError|IndexError|Traceback|NoneType|object is not|not support")


def old_plans():
    """Plans as the first releases of nnU-Net's version 2 wrote them."""
    plans = stock_plans()
    former = "foreground_intensity_properties_by_modality"
    plans[former] = plans.pop("foreground_intensity_properties_per_channel")
    for configuration in plans["configurations"].values():
        if configuration.pop("architecture", None):
            stages = {f"n_conv_per_stage_{part}": [2, 2] for part in ("encoder", "decoder")}
            sizes = {"pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]], "conv_kernel_sizes": [[3, 3, 3], [3, 3, 3]]}
            features = {"UNet_base_num_features": 32, "unet_max_num_features": 320, "num_pool_per_axis": [1, 1, 1]}
            configuration |= {"UNet_class_name": "PlainConvUNet", **stages, **sizes, **features}
    return plans


DOCUMENTS = (
    {"plans": stock_plans(), "dataset.json": DATASET_JSON},
    {"plans": old_plans(), "dataset.json": {"modality": {"0": "CT"}, "labels": DATASET_JSON["labels"]}},
)


def places(document):
    """The path of every value inside nested JSON."""
    items = dict(enumerate(document)) if isinstance(document, list) else document if isinstance(document, dict) else {}
    return [path for key, value in items.items() for path in [(key,), *((key, *rest) for rest in places(value))]]


def value_at(document, path):
    for key in path:
        document = document[key]
    return document


def is_near_what_is_read(path):
    return "3d_fullres" in path or "configurations" not in path or len(path) == 2


WORDS = sorted({str(key) for document in DOCUMENTS for path in places(document) for key in path})
WORDS += ["CTNormalization", "ZScoreNormalization", "resample_torch_fornnunet", "np", "OrderedDict", "a_tpmamba_2mm"]
TEXT = st.sampled_from(WORDS) | st.text(max_size=8)
CONFIGURATION = st.sampled_from(["3d_fullres"] * 12 + ["2d", "3d_lowres", "3d_cascade_fullres", None]).flatmap(
    lambda name: TEXT if name is None else st.just(name)
)
NUMBER = st.integers() | st.floats() | st.sampled_from([0, -1, 1, 2, 3, 0.5, 10**400, 1e308, 1e-320])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=6,
)
RETYPE = (str, bool, len, list, lambda value: [value], lambda value: {"0": value}, lambda value: None, places)


@st.composite
def damaged_documents(draw):
    """Plans and dataset.json after one to three values were deleted, replaced, changed or moved; and all keys there."""
    document = deepcopy(draw(st.sampled_from(DOCUMENTS)))
    keys = set()
    for _ in range(draw(st.integers(1, 3))):
        everywhere = places(document)
        near = [path for path in everywhere if is_near_what_is_read(path)]
        path = draw(st.sampled_from(everywhere if not near or draw(st.integers(0, 3)) == 0 else near))
        parent, value = value_at(document, path[:-1]), value_at(document, path)
        keys |= {str(key) for key in path} | {str(key) for below in places(value) for key in below}
        operation = draw(st.sampled_from(["delete", "replace", "retype", "shorten", "double", "move"]))
        if operation == "delete" and len(path) > 1:
            del parent[path[-1]]
        elif operation == "retype" and isinstance(value, str | list | dict):
            parent[path[-1]] = draw(st.sampled_from(RETYPE))(value)
        elif operation in ("shorten", "double") and isinstance(value, str | list):
            parent[path[-1]] = value[:-1] if operation == "shorten" else value + value
        elif operation == "move":
            parent[path[-1]] = deepcopy(value_at(document, draw(st.sampled_from(everywhere))))
        else:
            parent[path[-1]] = draw(JSON)
    return document["plans"], document["dataset.json"], keys - {"plans"}


@settings(max_examples=PLANS_EXAMPLES, **EXAMPLES)
@given(
    damaged_documents(),
    CONFIGURATION,
    st.tuples(*[st.sampled_from([0.3, 1.0, 2.5, 8.0])] * 3),
    st.integers(1, 64),
)
def test_damaged_plans_are_derived_as_meant_or_refused(damaged, configuration, spacing, batch_size):
    plans, dataset_json, keys = damaged
    before = json.dumps([plans, dataset_json])
    options = {"spacing": spacing, "patch_size": (32, 48, 64), "hu_window": (-100, 300), "batch_size": batch_size}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected old nnU-Net plans format")
        derived = message = None
        try:
            derived = derive_plans(plans, configuration, dataset_json, **options)
        except ValueError as error:
            message = str(error)
        assert json.dumps([plans, dataset_json]) == before
        if message is not None:
            assert not RAW_ERROR.search(re.sub(r"cannot be read \(.*?\);", "", message))  # nnU-Net's own words
            assert any(name in message for name in keys | {repr(configuration), "channel", "file holds"}), message
            return
        assert json.dumps(derive_plans(derived, configuration, dataset_json, **options)) == json.dumps(derived)
    assert derived["transpose_forward"] == derived["transpose_backward"] == [0, 1, 2]
    assert list(derived["configurations"]) == [configuration]
    chosen = derived["configurations"][configuration]
    assert (chosen["spacing"], chosen["patch_size"]) == (list(spacing), [32, 48, 64])
    assert chosen["batch_size"] == batch_size
    assert "_tpmamba" in chosen["data_identifier"]
    statistics = next(derived[key] for key in derived if key.startswith("foreground_intensity_properties_"))
    window = {"percentile_00_5": -100, "percentile_99_5": 300, "mean": -100, "std": 400}
    for channel, scheme in enumerate(chosen["normalization_schemes"]):
        assert scheme != "CTNormalization" or statistics[str(channel)].items() >= window.items()
