"""Photos in as few bytes as their use as a reference allows: JPEG, of limited size, or WebP without loss, in one tensor
of bytes; their masks as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from qsplat.io.images import shrink

QUALITY = 98
"""Of JPEG, 1 to 99."""
LOSSLESS = 100
"""The quality of photos that lose nothing but what 8 bits cannot hold: they are WebP."""


@dataclass(frozen=True)
class PackedPhotos:
    """Photos one after the other: their files in ``data``, and where each ends."""

    data: UInt8[Tensor, " bytes"]
    ends: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.ends)

    def unpack(self) -> list[Float[Tensor, "_h _w 3"]]:
        """The photos, RGB in [0, 1], on the CPU.

        Raises:
            ValueError: the bytes are damaged.
        """
        ends = self.ends.tolist()
        return [self._photo(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def unpack_masks(self) -> list[Bool[Tensor, "_h _w"]]:
        """What ``pack_masks`` packed.

        Raises:
            ValueError: the bytes are damaged.
        """
        return [photo[..., 0] > 0.5 for photo in self.unpack()]

    def _photo(self, start: int, end: int) -> Float[Tensor, "h w 3"]:
        try:
            with Image.open(io.BytesIO(self.data[start:end].cpu().numpy().tobytes())) as file:
                pixels = np.asarray(file.convert("RGB"), dtype=np.float32) / 255
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(
                f"a photo that the model keeps is damaged ({error}): train or copy the model again"
            ) from None
        return torch.from_numpy(pixels)


def pack_photos(
    photos: Sequence[Float[Tensor, "_h _w 3"]], *, max_side: int | None = None, quality: int = QUALITY
) -> PackedPhotos:
    """Pack ``photos``, RGB in [0, 1], as JPEG of ``quality`` or as WebP; those with a side longer than ``max_side``
    pixels are made smaller.

    Raises:
        ValueError: a size or quality that cannot be.
    """
    _check_side(max_side)
    if not 1 <= quality <= LOSSLESS:
        raise ValueError(f"quality={quality}: give a JPEG quality from 1 to 99, or 100 for photos without loss")
    kind: dict[str, Any] = {"format": "JPEG", "quality": quality, "subsampling": 0}
    if quality == LOSSLESS:
        kind = {"format": "WEBP", "lossless": True}
    pixels = [_bytes(_limited(photo.detach().cpu().numpy(), max_side)) for photo in photos]
    return _packed([_file(image, **kind) for image in pixels])


def pack_masks(masks: Sequence[Bool[Tensor, "_h _w"]], *, max_side: int | None = None) -> PackedPhotos:
    """Pack ``masks``, without loss; of those that are made smaller a pixel is True if all of it was.

    Raises:
        ValueError: a size that cannot be.
    """
    _check_side(max_side)
    smaller = [_limited(mask.cpu().numpy().astype(np.float32), max_side) > 0.999 for mask in masks]
    return _packed([_file(mask, format="PNG", optimize=True) for mask in smaller])


def _check_side(max_side: int | None) -> None:
    if max_side is not None and max_side < 1:
        raise ValueError(f"max_side={max_side}: a photo has at least 1 pixel a side")


def _packed(files: list[bytes]) -> PackedPhotos:
    ends = torch.tensor([len(file) for file in files], dtype=torch.int64).cumsum(0)
    return PackedPhotos(torch.frombuffer(bytearray(b"".join(files)) or bytearray(1), dtype=torch.uint8), ends)


def _limited(image: np.ndarray, max_side: int | None) -> np.ndarray:
    height, width = image.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return image
    factor = max_side / max(height, width)
    return shrink(image, max(1, round(width * factor)), max(1, round(height * factor)))


def _bytes(photo: np.ndarray) -> np.ndarray:
    return np.rint(photo.clip(0, 1) * 255).astype(np.uint8)


def _file(image: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, **options)
    return stream.getvalue()
