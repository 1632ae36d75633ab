"""Frequency dynamic convolution: its groups, its parameters, and what each of its parts is worth.

Claim: a kernel divided into groups of frequencies is a set of kernels that have nothing in common, for any number of
    groups at the same number of parameters; the 48 bottleneck convolutions of a ResNet-50 get 3.6 million parameters
    more; convolutions that the image modulates so predict dense images better than plain ones, and each part helps:
    more groups, the modulation of the kernel, that of the bands, whose fastest is enhanced at edges.
Setting: kernels of 64 to 64 channels, 3x3. The parts are tried on photos at half the resolution, enlarged by bicubic
    interpolation: a residual network of 4 layers of 32 channels learns what is missing of 13 photos of 96x96 pixels
    (Kodak and set5), a photo a step, 300 steps of Adam at 1e-3, and is measured on 14 others (set14). The maps of the
    bands are those of the first modulated layer for the photo comic, first seed. Task, sizes and steps are our choice;
    the source's are detection and segmentation on COCO, ADE20K and Cityscapes, which are not here.
Source: Chen et al. 2025 (arXiv 2503.18783), sections 3 and 4, and its published code. It gives no table of the parts
    that we know of, nor one of the number of groups; 1, 4 and 64 groups are what a summary of it proposes to compare.
Expectation: the statements about groups and parameters are exact. Dynamic kernels gain little where 300 steps and so
    few photos teach them.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch
from claims.band_maps import first_maps, kept, maps_of, photo_of, with_edges
from claims.drawing import bars, canvas, save
from claims.images import MISSING, has_photos, middle_crop, photo_paths, shrunk_and_enlarged
from claims.record import Setting, Verdict, interval, larger
from claims.regression import corrected, descend
from torch import Tensor, nn

from qsplat.metrics.psnr import psnr
from qsplat.qnn import QNN, QnnConfig
from qsplat.qnn.convolutions import Convolution, FDConv, FDConv2d, Standard

GROUPS = (1, 4, 16, 64)
EXTRA = 3_647_120
"""Parameters that the layers of the published code add to a ResNet-50; the paper says +3.6M."""
FULL, PLAIN, ONE, FOUR = "FDConv, 64 groups", "plain", "1 group", "4 groups"
KERNEL, BANDS = "no kernel modulation", "no band modulation"
NETWORKS: dict[str, Convolution] = {
    PLAIN: Standard(),
    FULL: FDConv(),
    FOUR: FDConv(groups=4),
    ONE: FDConv(groups=1),
    KERNEL: FDConv(kernel_modulation=False),
    BANDS: FDConv(band_modulation=False),
    "groups alone": FDConv(kernel_modulation=False, band_modulation=False),
}
PAIRS = (
    ("64 groups are better than 4", FULL, FOUR),
    ("4 groups are better than 1", FOUR, ONE),
    ("the modulation of the kernel helps", FULL, KERNEL),
    ("the modulation of the bands helps", FULL, BANDS),
)
OCTAVES = ("1/4 to 1/2", "1/8 to 1/4", "1/16 to 1/8")
TEXTURED = "comic"
EXACT = {"error": "sum of the groups", "cosine": "cosine of two groups", "birth": "output at birth"}
"""What should be 0, relative to the plain kernel or output."""
SMALL = 1e-4
"""Errors below this are those of float32, and of modulations whose weights are 1e-6 at birth."""


def measure(setting: Setting) -> dict[str, Any]:
    """Errors, cosines and numbers of parameters of groups; gains over bicubic interpolation; maps of the bands."""
    with torch.device("meta"):
        counted = extra_parameters()
    figures: dict[str, Any] = {"extra": counted, "runs": []}
    missing = not has_photos(setting)
    if missing:
        figures["missing"] = MISSING
    for seed in setting.each_seed():
        run: dict[str, Any] = {"groups": {str(groups): _groups(groups, seed) for groups in GROUPS}}
        if not missing:
            run |= _parts(setting, seed)
        figures["runs"].append(run)
    return figures


def judge(figures: dict[str, Any]) -> list[Verdict]:
    """The exact statements, and the parts against each other."""
    runs = figures["runs"]
    sizes = runs[0]["groups"]
    worst = {what: max(one[what] for run in runs for one in run["groups"].values()) for what in EXACT}
    rest = {groups: one["parameters"] - one["head"] for groups, one in sizes.items()}
    verdicts = [
        Verdict(
            "the groups add up to the plain kernel", worst["error"] < SMALL, f"relative error {worst['error']:.0e}"
        ),
        Verdict(
            "different groups have a cosine similarity near 0",
            worst["cosine"] < SMALL,
            f"at most {worst['cosine']:.0e}",
        ),
        Verdict(
            "at birth the output is that of the plain convolution",
            worst["birth"] < SMALL,
            f"relative error {worst['birth']:.0e}",
        ),
        Verdict(
            "parameters do not depend on the number of groups, but for the head that weighs them",
            len(set(rest.values())) == 1,
            f"{next(iter(rest.values())):,} without that head for {', '.join(sizes)} groups",
        ),
        Verdict(
            "the 48 bottleneck convolutions of a ResNet-50 get 3.6 million parameters more",
            figures["extra"] == EXTRA,
            f"{figures['extra']:+,}",
        ),
    ]
    claim = "FDConv predicts what a photo lacks better than plain convolutions"
    if "missing" in figures:
        return [*verdicts, Verdict(claim, None, figures["missing"])]
    gains = {name: [run["gains"][name] for run in runs] for name in NETWORKS}
    for said, one, other in ((claim, FULL, PLAIN), *PAIRS):
        verdicts.append(larger(said, gains[one], gains[other], unit="dB"))
    edges = [run["edges"] for run in runs]
    verdicts.append(
        Verdict(
            "the fastest band is enhanced at edges",
            min(edges) > 0,
            f"correlation of its map with the photo's gradient {interval(edges)}",
        )
    )
    return verdicts


def draw(figures: dict[str, Any], path: Path) -> None:
    """Gains, a photo with the maps of its bands, and what should be 0."""
    runs = figures["runs"]
    with canvas(2, 3) as (figure, axes):
        first, second, *others, last = axes.flat
        for what, said in EXACT.items():
            # A single group has no other one to be compared with
            worst = {int(groups): max(run["groups"][groups][what] for run in runs) for groups in runs[0]["groups"]}
            shown = {groups: value for groups, value in worst.items() if value > 0}
            last.loglog(list(shown), list(shown.values()), "o-", label=said)
        last.set(xlabel="groups", ylabel="relative error", ylim=(1e-9, 1e-2))
        last.legend(fontsize="small", loc="upper right")
        if "missing" in figures:
            for axis in (first, second, *others):
                axis.axis("off")
            save(figure, path)
            return
        bars(
            first,
            {name: [run["gains"][name] for run in runs] for name in NETWORKS},
            label="gain over bicubic, photos not learnt (dB)",
        )
        known = runs[0]["maps"]
        second.imshow(photo_of(known))
        second.set_title(known["name"])
        for axis, band, values in zip(others, OCTAVES, maps_of(known), strict=True):
            figure.colorbar(axis.imshow(values, cmap="viridis"), ax=axis)
            axis.set_title(f"factor of {band} cycles per pixel", fontsize="small")
        for axis in (second, *others):
            axis.set_xticks([])
            axis.set_yticks([])
        save(figure, path)


def extra_parameters() -> int:
    """What a ResNet-50 has more when FDConv takes the place of its bottleneck convolutions."""
    from torchvision.models import resnet50
    from torchvision.models.resnet import Bottleneck

    network = resnet50(weights=None)
    before = _parameters(network)
    for block in network.modules():
        if isinstance(block, Bottleneck):
            for name in ("conv1", "conv2", "conv3"):
                setattr(block, name, FDConv2d(getattr(block, name)))
    return _parameters(network) - before


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def _groups(groups: int, seed: int) -> dict[str, float]:
    """Of a layer of 64 to 64 channels."""
    torch.manual_seed(seed)
    plain, features = nn.Conv2d(64, 64, 3, padding=1), torch.randn(1, 64, 24, 24)
    layer = FDConv2d(plain, FDConv(groups=groups))
    kernels, expected = layer.group_kernels(), plain(features)
    each = nn.functional.normalize(kernels.flatten(1), dim=1)
    return {
        "error": ((kernels.sum(0) - plain.weight).norm() / plain.weight.norm()).item(),
        "cosine": (each @ each.T - torch.eye(groups)).fill_diagonal_(0).abs().max().item(),
        "birth": ((layer(features) - expected).norm() / expected.norm()).item(),
        "parameters": _parameters(layer),
        "head": _parameters(layer.modulation.groups),
    }


def _parts(setting: Setting, seed: int) -> dict[str, Any]:
    """Gains of every network on photos not learnt, and the maps of the full one."""
    side, steps = (32, 4) if setting.quick else (96, 300)
    learnt = [_pair(path, side) for kind in ("kodak", "set5") for path in photo_paths(setting, kind)]
    others = {path.stem: _pair(path, side) for path in photo_paths(setting, "set14")}
    found: dict[str, Any] = {"gains": {}}
    for name, convolution in NETWORKS.items():
        torch.manual_seed(seed)
        head = QNN(QnnConfig(channels=32, input="render", precision="fp32", convolution=convolution))
        order = torch.randint(len(learnt), (steps,), generator=torch.Generator().manual_seed(seed)).tolist()

        def loss(step: int, head: QNN = head, order: list[int] = order) -> Tensor:
            base, photo = learnt[order[step]]
            return (corrected(head, base) - photo).square().mean()

        descend(head.parameters(), loss, steps=steps, rate=1e-3)
        with torch.no_grad():
            found["gains"][name] = statistics.fmean(
                float(psnr(corrected(head, base).clamp(0, 1), photo) - psnr(base, photo))
                for base, photo in others.values()
            )
            if name == FULL:
                maps = {stem: first_maps(head, base) for stem, (base, _) in others.items()}
                found["edges"] = statistics.fmean(with_edges(maps[stem][0], others[stem][0]) for stem in maps)
                if seed == 0:
                    shown = TEXTURED if TEXTURED in maps else next(iter(maps))
                    found["maps"] = kept(shown, others[shown][0], maps[shown])
    return found


def _pair(path: Path, side: int) -> tuple[Tensor, Tensor]:
    """A photo with half its resolution, and as it is."""
    photo = middle_crop(path, side, 2)
    return shrunk_and_enlarged(photo, 2), photo
