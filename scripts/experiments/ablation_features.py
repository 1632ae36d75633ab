"""Networks whose queries are learnt channels of the Gaussians, splatted like their colour."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qsplat.cameras import Camera, Window
from qsplat.gaussians import Gaussians
from qsplat.qnn import QNN, QnnConfig, image_residual, part_queries, pixel_queries
from qsplat.qnn.images import window_residual
from qsplat.qnn.queries import PartQueries
from qsplat.render import Backend, RasterConfig, rasterize
from qsplat.training.adam import Adam
from qsplat.training.config import FitConfig
from qsplat.training.model import SplatModel
from qsplat.training.objective import PhotoLoss
from qsplat.training.optimizers import EPSILON, RATES, Rate
from qsplat.training.photo_head import ShownView, photo_queries
from qsplat.training.plus_model import MeanView, PlusModel
from qsplat.training.randomness import PhotoOrder, branched, generator_at
from qsplat.training.targets import TrainingView
from qsplat.training.training import Training


class SplattedQueries(nn.Module):
    """Coordinates of the pixels and ``count`` learnt channels of ``sets`` of Gaussians, which are 0 at birth; those of
    several sets are averaged as their images are."""

    needs_depth = False

    def __init__(self, sets: Sequence[Gaussians], count: int, config: RasterConfig) -> None:
        super().__init__()
        self.channels = 2 + count
        self.features = nn.ParameterList(torch.zeros(len(one), count) for one in sets)
        self._splats = [one.activate() for one in sets]
        self._config = replace(config, depth=False)

    def forward(self, camera: Camera, depth: Float[Tensor, "h w"] | None = None) -> Float[Tensor, "h w d"]:
        """Coordinates in [-1, 1], and the channels, over a background of 0."""
        drawn = [
            rasterize(replace(one, sh=None, features=features), camera, config=self._config).color
            for one, features in zip(self._splats, self.features, strict=True)
        ]
        return torch.cat([pixel_queries(camera), torch.stack(drawn).mean(0)], dim=-1)


@dataclass(frozen=True)
class FeaturedPlus(PlusModel):
    """Sets that count the same, the mean of whose images ``network`` corrects before photos do."""

    network: QNN = field(kw_only=True)

    def mean(self, camera: Camera, *, backend: Backend | None = None) -> MeanView:
        """The view of ``camera`` without what photos say."""
        view = super().mean(camera, backend=backend)
        residual = image_residual(self.network, view.image, _told(self.network, camera))
        return replace(view, image=view.image + residual)


def with_features(model: PlusModel, photos: Sequence[TrainingView], config: FitConfig, count: int) -> FeaturedPlus:
    """``model``, whose sets count the same, with a network as of ``train_with_features`` on the mean of the sets: what
    the ``photos`` of the training lack is then what they lack of the images that it has corrected.

    The head of ``model``, and how far it believes photos, stay as they were found without the network: photos that were
    kept from a set would be no judges of one that has seen them.
    """
    assert model.weights is None
    crops = torch.Generator().manual_seed(config.seed)
    order = PhotoOrder(len(photos), generator=branched(crops.get_state()))
    network = train_with_features(model.sets, model.shown(photos), config, count, order=order, crops=crops)
    made = FeaturedPlus(
        model.sets, copy.deepcopy(model.head), background=model.background, config=model.config, network=network
    )
    if made.head is not None:
        made.head.photos = photo_queries(made.shown(photos), made.head.photos.config)
    return made


def headed_by_features(training: Training, photos: Sequence[TrainingView], count: int) -> SplatModel:
    """The model of ``training``, whose Gaussians no longer move, with a head as of ``train_with_features``, in the
    order of ``photos``, and with the crops, in which the training would go on."""
    model, state = training.model(), training.state()
    order, crops = (generator_at(state.tensors[f"random.{name}"]) for name in ("order", "crops"))
    alone = PlusModel((model.gaussians,), background=model.background, config=model.config)
    head = train_with_features(
        alone.sets,
        alone.shown(photos),
        training.config,
        count,
        order=PhotoOrder(len(photos), state.facts["upcoming"], generator=order),
        crops=crops,
    )
    return replace(model, head=head)


def train_with_features(
    sets: Sequence[Gaussians],
    views: Sequence[ShownView],
    config: FitConfig,
    count: int,
    *,
    order: PhotoOrder,
    crops: torch.Generator,
) -> QNN:
    """A network of ``config`` that corrects ``views``, what ``sets`` of Gaussians that no longer move show of the
    training photos, and reads ``count`` channels of them.

    Network and channels learn together from the switch-on to the end, on ``crops`` of the views in that ``order``; the
    channels at the rate of colours, which goes on as that of the network does.
    """
    schedule = config.schedule.with_head(config.head)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        queries = SplattedQueries(sets, count, config.raster)
        network = QNN(config.head or QnnConfig(), queries=queries)
    rates = [Rate(rate, 0.0, schedule.head_decay) for rate in (schedule.head_rate, RATES["features_dc"].initial)]
    weights = [parameter for name, parameter in network.named_parameters() if not name.startswith("queries.")]
    optimizers = [Adam(group, lr=1, eps=EPSILON, fused=True) for group in (weights, list(queries.features))]
    for step in range(schedule.head_start, schedule.iterations):
        view = views[next(order)]
        height, width, _ = view.image.shape
        window = schedule.head_window_at(step, width=width, height=height, generator=crops)
        window = window or Window(0, 0, width, height)
        residual = window_residual(network, view.image, _told(network, view.camera), window)
        PhotoLoss(view.photo, view.mask, config.ssim_weight).of(view.image + residual, window).backward()
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate.at(step, schedule)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return network.eval().requires_grad_(False)


def _told(network: QNN, camera: Camera) -> PartQueries:
    """What ``network`` reads of parts of the image of ``camera``."""
    assert network.queries is not None
    return part_queries(network.queries, camera)
