"""What is measured on a finished model."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from qsplat.cameras import Camera
    from qsplat.io.scene import Scene, View
    from qsplat.metrics.report import Report, Scores
    from qsplat.qnn import QNN
    from qsplat.training.model import SplatModel, ViewOutputs
    from qsplat.training.plus_model import PlusModel

MEASURES = ("psnr", "ssim", "psnr_edge")
PROBED = 8
"""Training views on which hidden units are watched."""


def scores_of(scene: Scene, model: SplatModel | PlusModel) -> dict[str, Any]:
    """Scores on training and on held-out views, means and view by view, and the state of the head.

    ``base`` is the image without the head's residual. PSNR in dB, ``band_psnr`` from the lowest octave to the highest.
    ``dead_units`` is the share of hidden units that are not above 0 at any pixel of at most ``PROBED`` training views,
    ``mean_residual`` the mean absolute residual on held-out views; both are None without a head. A head that reads
    photos reads none that is the view itself.
    """
    residuals: list[float] = []
    train, held_out = _report(scene.name, model, scene.train), _report(scene.name, model, scene.test, residuals)
    head = model.head
    return {
        "splats": splats_of(model),
        "parameters": None if head is None else sum(parameter.numel() for parameter in head.parameters()),
        "arithmetic": None if head is None else arithmetic_of(head, model.background.device),
        "train": _chosen(train.mean),
        "train_base": _chosen(train.base),
        "held_out": _chosen(held_out.mean),
        "held_out_base": _chosen(held_out.base),
        "train_views": {image.name: _chosen(image.scores) for image in train.per_image},
        "held_out_views": {image.name: _chosen(image.scores) for image in held_out.per_image},
        "dead_units": None if head is None else dead_units(head, model, scene.train),
        "mean_residual": None if head is None else statistics.mean(residuals),
    }


def splats_of(model: SplatModel | PlusModel) -> int:
    """The number of Gaussians, those of all sets."""
    from qsplat.training.plus_model import PlusModel

    return sum(len(one) for one in model.sets) if isinstance(model, PlusModel) else len(model.gaussians)


def rendered(model: SplatModel | PlusModel, camera: Camera, *, own: int | None) -> ViewOutputs:
    """A view; ``own`` is the index of the training photo that it is, which is not read."""
    from qsplat.training.plus_model import PlusModel

    return model.render(camera, left_out=own) if isinstance(model, PlusModel) else model.render(camera)


def arithmetic_of(head: QNN, device: torch.device) -> str:
    """What ``head`` computes in on ``device``."""
    from qsplat.precision import uses_bfloat16

    return "bfloat16" if uses_bfloat16(head.config.precision, device) else "float32"


def dead_units(head: QNN, model: SplatModel | PlusModel, views: Sequence[View]) -> float | None:
    """Share of the hidden units of ``head`` that are at most 0 before their ReLU at every pixel of ``views``, of which
    ``PROBED`` at most are looked at; None for a head without hidden units, or one that does not ask them."""
    import torch
    from torch import Tensor, nn

    highest: dict[nn.Module, Tensor] = {}

    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        peaks = inputs[0].detach().amax(dim=(0, 2, 3))
        highest[module] = torch.maximum(highest[module], peaks) if module in highest else peaks

    hidden = [module for module in head.modules() if isinstance(module, nn.ReLU | nn.LeakyReLU)]
    hooks = [module.register_forward_pre_hook(watch) for module in hidden]
    try:
        with torch.no_grad():
            for index in range(0, len(views), -(-len(views) // PROBED)):
                rendered(model, views[index].camera, own=index)
    finally:
        for hook in hooks:
            hook.remove()
    if not highest:
        return None
    return float(torch.cat([peaks <= 0 for peaks in highest.values()]).float().mean())


def _report(
    scene: str, model: SplatModel | PlusModel, views: Sequence[View], residuals: list[float] | None = None
) -> Report:
    from qsplat.metrics.report import RunFacts, evaluate

    facts = RunFacts("ablation", scene, "cpu", None, splats_of(model), None)
    own = {id(view.camera): index for index, view in enumerate(views)} if residuals is None else {}

    def render(camera: Camera) -> ViewOutputs:
        return rendered(model, camera, own=own.get(id(camera)))

    def take(image: object, photo: object, shown: Any) -> None:
        if residuals is not None:
            residuals.append(float((shown.rgb - shown.rgb_base).abs().mean()))

    return evaluate(render, views, facts, background=model.background, on_view=take)


def _chosen(scores: Scores) -> dict[str, Any]:
    """The measures that are kept, to 1e-5."""
    kept = {name: value for name, value in asdict(scores).items() if name in MEASURES}
    octaves = [round(octave, 5) for octave in scores.band_psnr]
    return {name: None if value is None else round(value, 5) for name, value in kept.items()} | {"band_psnr": octaves}
