"""Learned perceptual similarity, with weights that are already on this machine or not at all."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

LpipsNet = Literal["vgg", "alex"]

WEIGHT_FILES: dict[LpipsNet, str] = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}
"""Files of the backbones' ImageNet weights, as torchvision names them."""

TORCHVISION_NAMES: dict[LpipsNet, str] = {"vgg": "vgg16", "alex": "alexnet"}

SMALLEST = 64
"""Shortest side in pixels from which on the deepest features of both backbones have more than one sample."""


@dataclass(frozen=True)
class LpipsUnavailable:
    """Why there is no LPIPS here, and what to do about it."""

    net: LpipsNet
    reason: str


@dataclass(frozen=True)
class Lpips:
    """LPIPS with one backbone, ready to measure."""

    net: LpipsNet
    network: nn.Module

    def __call__(self, prediction: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"]) -> float | None:
        """Distance of ``prediction``, clamped to [0, 1], from ``target``; None for images below 64 pixels a side."""
        if min(target.shape[:2]) < SMALLEST:
            return None
        first, second = (image.permute(2, 0, 1)[None].float() for image in (prediction.clamp(0, 1), target))
        with torch.no_grad():
            return self.network.to(target.device)(first, second, normalize=True).item()


def weights_file(net: LpipsNet, folder: Path | None = None) -> Path:
    """Where the backbone's weights are looked for: ``folder``, or torch hub's downloads (which follow TORCH_HOME)."""
    return (folder or Path(torch.hub.get_dir()) / "checkpoints") / WEIGHT_FILES[net]


def fetch_remedy(net: LpipsNet) -> str:
    """How to get the weights."""
    return (
        f"torchvision.models.{TORCHVISION_NAMES[net]}(weights='DEFAULT') downloads it; TORCH_HOME names another place"
    )


def load_lpips(net: LpipsNet, *, folder: Path | None = None) -> Lpips | LpipsUnavailable:
    """LPIPS v0.1 with the backbone ``net``. Nothing is downloaded: without the weights the answer says so at once.

    Source: Zhang et al. 2018; the calibrated layers come with the ``lpips`` package.
    """
    path = weights_file(net, folder)
    if not path.is_file():
        return LpipsUnavailable(net, f"{path} is missing; {fetch_remedy(net)}")
    import lpips

    with warnings.catch_warnings():
        # the package names torchvision's arguments as they were called before
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        # slice2.5.weight of the package is features.5.weight of torchvision
        names = {name: "features." + name.split(".", 1)[1] for name in network.net.state_dict()}
        network.net.load_state_dict({name: weights[source] for name, source in names.items()})
    except Exception as error:
        return LpipsUnavailable(net, f"{path} holds no weights of {net} ({type(error).__name__}): download it again")
    return Lpips(net, network.eval())
