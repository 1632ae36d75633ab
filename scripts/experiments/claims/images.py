"""Photos that experiments learn: of the Kodak set, or of the bundled scene in a quick run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from claims.record import Setting
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from qsplat.io.images import read_photo, shrink

STILLLIFE = Path(__file__).resolve().parents[3] / "scenes" / "stilllife"
MISSING = "not measured: QSPLAT_DATA names no folder with images/kodak, images/set5 and images/set14"


def has_photos(setting: Setting) -> bool:
    """Whether there is something to learn; a quick run always has."""
    sets = ("kodak", "set5", "set14")
    return setting.quick or (setting.data is not None and all((setting.data / "images" / one).is_dir() for one in sets))


def photo_paths(setting: Setting, kind: str) -> list[Path]:
    """The photos of a set in the order of their names; in a quick run, some of the bundled scene."""
    if setting.quick:
        return sorted(STILLLIFE.glob("**/*.jpg"))[:4]
    assert setting.data is not None
    return sorted((setting.data / "images" / kind).glob("*.png"))


def square_photo(path: Path, side: int) -> Float[Tensor, "side side 3"]:
    """The middle square of a photo, shrunk to ``side`` pixels."""
    image = read_photo(path).image
    least = min(image.shape[:2])
    top, left = (image.shape[0] - least) // 2, (image.shape[1] - least) // 2
    return torch.from_numpy(shrink(image[top : top + least, left : left + least], side, side)).contiguous()


def middle_crop(path: Path, side: int, multiple: int) -> Float[Tensor, "h w 3"]:
    """The middle of a photo in its own resolution, ``side`` pixels at most, its sides multiples of ``multiple``."""
    image = torch.from_numpy(read_photo(path).image)
    height, width = (min(side, size) // multiple * multiple for size in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width].contiguous()


def shrunk_and_enlarged(image: Float[Tensor, "h w 3"], factor: int) -> Float[Tensor, "h w 3"]:
    """``image`` at a ``factor`` less resolution, bicubic both ways, in [0, 1]."""
    planes = image.permute(2, 0, 1)[None]
    size = (image.shape[0], image.shape[1])
    small = functional.interpolate(
        planes, size=(size[0] // factor, size[1] // factor), mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 1)
    large = functional.interpolate(small, size=size, mode="bicubic", align_corners=False)
    return large[0].permute(1, 2, 0).clamp(0, 1)


def pixel_grid(height: int, width: int) -> Float[Tensor, "h w 2"]:
    """Coordinates (x, y) of pixel centres in [-1, 1]."""
    y, x = ((torch.arange(size) + 0.5) * (2 / size) - 1 for size in (height, width))
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)


def blocks_kept(side: int, block: int, *, generator: torch.Generator) -> Tensor:
    """A mask [side, side] in which a random half of the blocks of ``block`` pixels a side is True."""
    count = -(-side // block)
    chosen = torch.zeros(count * count, dtype=torch.bool)
    chosen[torch.randperm(count * count, generator=generator)[: count * count // 2]] = True
    return chosen.reshape(count, count).repeat_interleave(block, 0).repeat_interleave(block, 1)[:side, :side]


def planes(images: Sequence[Float[Tensor, "h w c"]]) -> Float[Tensor, "b c h w"]:
    """Images of one size as a batch."""
    return torch.stack([image.permute(2, 0, 1) for image in images])
