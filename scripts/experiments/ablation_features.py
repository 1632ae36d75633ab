"""A head whose queries are learnt channels of the Gaussians, splatted like their colour."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qsplat.cameras import Camera
from qsplat.gaussians import Gaussians
from qsplat.io.scene import Scene
from qsplat.qnn import QNN, QnnConfig, pixel_queries
from qsplat.render import RasterConfig, rasterize
from qsplat.training.adam import Adam
from qsplat.training.config import FitConfig
from qsplat.training.model import SplatModel, without_trace
from qsplat.training.objective import PhotoLoss
from qsplat.training.optimizers import EPSILON, RATES, Rate
from qsplat.training.targets import Target


class SplattedQueries(nn.Module):
    """Coordinates of the pixels and ``count`` learnt channels of ``gaussians``, which are 0 at birth."""

    needs_depth = False

    def __init__(self, gaussians: Gaussians, count: int, config: RasterConfig) -> None:
        super().__init__()
        self.channels = 2 + count
        self.features = nn.Parameter(torch.zeros(len(gaussians), count))
        self._splats = gaussians.activate()
        self._config = replace(config, depth=False)

    def forward(self, camera: Camera, depth: Float[Tensor, "h w"] | None = None) -> Float[Tensor, "h w d"]:
        """Coordinates in [-1, 1], and the channels, over a background of 0."""
        drawn = rasterize(replace(self._splats, sh=None, features=self.features), camera, config=self._config)
        return torch.cat([pixel_queries(camera), drawn.color], dim=-1)


def train_with_features(scene: Scene, model: SplatModel, config: FitConfig, count: int) -> SplatModel:
    """``model``, whose Gaussians no longer move, with a head of ``config`` that reads ``count`` channels of them.

    Head and channels learn together for the steps after the switch-on, on crops of the training photos of ``scene`` in
    shuffled epochs; the channels at the rate of colours, which falls to 0 by a cosine as that of the head does.
    """
    schedule, generator = config.schedule, torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        queries = SplattedQueries(model.gaussians, count, model.config)
        head = QNN(config.head or QnnConfig(), queries=queries)
    model = replace(model, head=head)
    targets = [Target.of(view, 1, "cpu") for view in scene.train]
    with torch.no_grad():
        drawn = [without_trace(model.draw(target.camera)) for target in targets]
    rates = (Rate(schedule.head_rate, 0.0, "cosine"), Rate(RATES["features_dc"].initial, 0.0, "cosine"))
    network = [parameter for name, parameter in head.named_parameters() if not name.startswith("queries.")]
    optimizers = [Adam(group, lr=1, eps=EPSILON, fused=True) for group in (network, [queries.features])]
    upcoming: list[int] = []
    for step in range(schedule.head_start, schedule.iterations):
        upcoming = upcoming or torch.randperm(len(targets), generator=generator).tolist()
        target, image = targets[index := upcoming.pop()], drawn[index]
        size = target.camera.view
        window = schedule.head_window_at(step, width=size.width, height=size.height, generator=generator)
        view = model.corrected(image, target.camera, head_window=window)
        against = PhotoLoss(target.over(model.background), target.mask, config.ssim_weight)
        against.in_phase("frozen", view.rgb, view.rgb_base, window).backward()
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate.at(step, schedule)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    head.eval().requires_grad_(False)
    return model
