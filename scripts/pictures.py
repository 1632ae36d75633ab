"""Pictures that show what a residual network does to a view: panels, and panels side by side under their labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from torch import Tensor

Picture = NDArray[np.uint8]
"""sRGB, h w 3."""

RESIDUAL_GAIN = 4.0
"""Residuals are shown around grey, this many times as large."""

ERROR_RANGE = 0.2
"""Mean absolute error of a pixel at which the maps are brightest."""

GAP = 4
NARROWEST = 160
"""Pixels across a picture that its label needs; each pixel of a narrower one becomes a square of several."""


@dataclass(frozen=True)
class Panels:
    """One held-out photo, what a model makes of its camera without and with its head, and their errors."""

    photo: Picture
    base: Picture
    rgb: Picture
    residual: Picture
    base_error: Picture
    rgb_error: Picture


def panels(photo: Tensor, base: Tensor, rgb: Tensor) -> Panels:
    """Pictures of three images [h, w, 3] in [0, 1]."""
    target, without, corrected = (_array(image) for image in (photo, base, rgb))
    return Panels(
        photo=_bytes(target),
        base=_bytes(without),
        rgb=_bytes(corrected),
        residual=_bytes(0.5 + RESIDUAL_GAIN * (corrected - without)),
        base_error=error_map(target, without),
        rgb_error=error_map(target, corrected),
    )


def picture(image: Tensor) -> Picture:
    """An image [h, w, 3] as 8 bit, clamped to [0, 1]."""
    return _bytes(_array(image))


def error_map(photo: NDArray[np.float64], image: NDArray[np.float64]) -> Picture:
    """Mean absolute difference over the channels, from black over red to white at ``ERROR_RANGE`` and above."""
    from matplotlib import colormaps

    error = np.abs(photo - image).mean(axis=-1) / ERROR_RANGE
    return _bytes(colormaps["inferno"](np.clip(error, 0, 1))[..., :3])


def side_by_side(shown: Panels, title: str) -> Picture:
    """The panels in two rows of three, with a strip of labels above each row."""
    rows = [
        {"photo": shown.photo, "without QNN": shown.base, "with QNN": shown.rgb},
        {
            f"residual x{RESIDUAL_GAIN:g}": shown.residual,
            f"error without, 0 to {ERROR_RANGE:g}": shown.base_error,
            f"error with, 0 to {ERROR_RANGE:g}": shown.rgb_error,
        },
    ]
    return _sheet(rows, title)


def beside_photo(shown: Panels, title: str) -> Picture:
    """Photo, image and error of a model whose images nothing corrects, in one row under their labels."""
    row = {"photo": shown.photo, "image": shown.rgb, f"error, 0 to {ERROR_RANGE:g}": shown.rgb_error}
    return _sheet([row], title)


def _sheet(rows: list[dict[str, Picture]], title: str) -> Picture:
    """Rows of three pictures of one size with a strip of labels above each row."""
    height, width = rows[0]["photo"].shape[:2]
    scale = math.ceil(NARROWEST / width)
    height, width = scale * height, scale * width
    font = ImageFont.load_default(size=max(10, min(24, width // 16)))
    strip = int(1.6 * font.size) if isinstance(font, ImageFont.FreeTypeFont) else 16
    sheet = Image.new("RGB", (3 * width + 2 * GAP, strip + len(rows) * (strip + height + GAP) - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, strip // 6), title, fill="black", font=font)
    for row, pictures in enumerate(rows):
        top = strip + row * (strip + height + GAP)
        for column, (label, picture) in enumerate(pictures.items()):
            left = column * (width + GAP)
            draw.text((left + GAP, top + strip // 6), label, fill="black", font=font)
            enlarged = picture.repeat(scale, axis=0).repeat(scale, axis=1)
            sheet.paste(Image.fromarray(enlarged), (left, top + strip))
    return np.asarray(sheet)


def _array(image: Tensor) -> NDArray[np.float64]:
    return image.detach().cpu().double().clamp(0, 1).numpy()


def _bytes(image: NDArray[np.float64]) -> Picture:
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
