"""Sliding-window prediction of a whole CT with nnU-Net's own predictor."""

from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from types import SimpleNamespace

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

from nnunetv2_tpmamba.config import TPMambaConfig
from nnunetv2_tpmamba.networks.baselines.nnunet import build_unet, plan_unet
from nnunetv2_tpmamba.networks.tpmamba import TPMamba

from .network import GRID6, OURS, STOCK, whole_network
from .setting import Setting
from .task import Contestant, Makers, Task


def tasks(setting: Setting) -> list[Task]:
    mirrors = "8 mirror images" if setting.mirroring else "no mirror images"
    return [Task("prediction", f"CT of {setting.ct} mm cubed at 1 mm, {mirrors}", partial(_prediction, setting))]


def predicting_ct(network: nn.Module, patch_size: tuple[int, ...], setting: Setting) -> Callable[[], None]:
    """Return a function that predicts a random CT as nnU-Net does by default: weighted patches, half a patch apart."""
    with redirect_stdout(StringIO()):  # nnU-Net prints that some settings have no effect on a CPU
        predictor = nnUNetPredictor(
            use_mirroring=setting.mirroring,
            perform_everything_on_device=setting.device.type == "cuda",
            device=setting.device,
            allow_tqdm=False,
        )
    labels = SimpleNamespace(num_segmentation_heads=setting.num_classes)
    predictor.manual_initialization(
        network,
        plans_manager=SimpleNamespace(get_label_manager=lambda dataset_json: labels),
        configuration_manager=SimpleNamespace(patch_size=patch_size),
        parameters=None,
        dataset_json={},
        trainer_name="",
        inference_allowed_mirroring_axes=(0, 1, 2),
    )
    ct = torch.rand(1, *[setting.ct] * 3)

    def predict() -> None:
        with setting.autocast():
            predictor.predict_sliding_window_return_logits(ct)

    return predict


def _prediction(setting: Setting) -> Makers:
    def stock() -> Contestant:
        patch_size = (setting.stock_patch,) * 3
        topology = plan_unet(patch_size)
        network = setting.build(lambda: build_unet(1, setting.num_classes, topology, deep_supervision=False))
        return predicted(network, patch_size)

    def ours(config: TPMambaConfig, setting: Setting = setting) -> Contestant:
        network = setting.build(lambda: TPMamba(1, setting.num_classes, config))
        return predicted(network, setting.patch_size, setting)

    def predicted(network: nn.Module, patch_size: tuple[int, ...], setting: Setting = setting) -> Contestant:
        note = f"patches of {' x '.join(map(str, patch_size))}"
        return whole_network(network, predicting_ct(network, patch_size, setting), patch_size, setting, note=note)

    makers: dict[str, Callable[[], Contestant]] = {STOCK: stock}
    for name, config in ((OURS, setting.config), (GRID6, setting.grid6)):
        makers[name] = partial(ours, config)
        makers |= {f"{name}, {other.precision}": partial(ours, config, other) for other in setting.lowered()}
    return makers
