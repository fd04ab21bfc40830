"""The checks of ``nnUNetv2_tpmamba doctor``: each looks at one thing that training needs and says what it found.

The checks import torch, timm and nnU-Net themselves, so that a failing import is a finding.
"""

from collections.abc import Callable
from functools import partial

from .finding import Finding
from .folders import PREPROCESSED, RAW, RESULTS, check_folder, check_raw
from .installation import SEARCHED, check_monai, check_trainer, check_versions
from .training import check_device, check_models, check_sam, check_scan, check_step

CHECKS: dict[str, Callable[[], Finding]] = {
    "versions": check_versions,
    SEARCHED: check_trainer,  # as nnUNetv2_train before MONAI, which imports modules that break nnU-Net's search
    "MONAI": check_monai,
    RAW: check_raw,
    PREPROCESSED: partial(check_folder, PREPROCESSED, is_written=True),
    RESULTS: partial(check_folder, RESULTS, is_written=True),
    "device": check_device,
    "selective scan": check_scan,
    "SAM file": check_sam,
    "training step": check_step,
    "models": check_models,
}
