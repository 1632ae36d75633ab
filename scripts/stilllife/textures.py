"""Painted surfaces of the still life: sRGB images (h w 3, 8 bit), drawn by formulas and by Pillow's bundled font."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[float, float, float]
FloatImage = NDArray[np.float64]
Texture = NDArray[np.uint8]

CREAM, INK = (0.90, 0.85, 0.74), (0.13, 0.11, 0.12)
INDIGO, MADDER, OCHRE = (0.14, 0.22, 0.42), (0.66, 0.20, 0.15), (0.80, 0.56, 0.20)


def noise(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]) -> FloatImage:
    """Smooth noise in about [-1, 1], ``size`` = (h, w) pixels with ``cells`` = (down, across) independent values."""
    grid = rng.uniform(-1, 1, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
    image = Image.fromarray(grid).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float64)


def woven_cloth(rng: np.random.Generator, *, threads: int = 88, thread_pixels: int = 14) -> Texture:
    """A plain weave of coloured threads: each crossing shows the upper thread, darker where it dives under."""
    pattern = [CREAM] * 9 + [INDIGO] * 4 + [CREAM] * 2 + [INDIGO] + [CREAM] * 2 + [MADDER] * 3 + [CREAM]
    colors = np.array([pattern[i % len(pattern)] for i in range(threads)])
    colors = colors * rng.uniform(0.88, 1.0, (threads, 1))
    pixels = threads * thread_pixels
    index, along = np.divmod(np.arange(pixels), thread_pixels)
    offset = (along + 0.5) / thread_pixels * 2 - 1
    warp_on_top = (index[:, None] + index[None, :]) % 2 == 0
    across_warp, across_weft = np.broadcast_arrays(offset[None, :], offset[:, None])
    across = np.where(warp_on_top, across_warp, across_weft)
    lengthwise = np.where(warp_on_top, across_weft, across_warp)
    shade = np.sqrt(1 - 0.93 * across**2) * (1 - 0.45 * lengthwise**4)
    shade *= 1 + 0.10 * rng.uniform(-1, 1, shade.shape)
    image = np.where(warp_on_top[..., None], colors[index][None, :, :], colors[index][:, None, :]) * shade[..., None]
    return to_bytes(image)


def planks(
    rng: np.random.Generator, size: tuple[int, int], *, count: int, light: Color, dark: Color, contrast: float = 1.0
) -> Texture:
    """``count`` boards along the image's rows, each with its own tone, grain and a dark joint."""
    height, width = size
    tone = np.zeros(size)
    for i in range(count):
        rows = slice(i * height // count, (i + 1) * height // count)
        part = (rows.stop - rows.start, width)
        bend = noise(rng, part, (3, 12)) * 1.3
        rings = np.sin((np.linspace(0, rng.uniform(3, 6), part[0])[:, None] + bend) * 2 * np.pi)
        fibres = noise(rng, part, (part[0] // 2, 24)) + 0.7 * noise(rng, part, (part[0] // 5, 9))
        tone[rows] = 0.5 + rng.uniform(-0.16, 0.16) + contrast * (0.08 * rings + 0.17 * fibres)
        tone[rows.start : rows.start + max(2, part[0] // 50)] = -0.15
    return to_bytes(np.array(dark) + (np.array(light) - np.array(dark)) * tone[..., None])


def painted_vase(size: tuple[int, int] = (720, 1440)) -> Texture:
    """Cobalt on white: bands, chevrons, eight-petalled rosettes, fish scales and dots (u around, row 0 is the rim)."""
    height, width = size
    v = (np.arange(height)[:, None] + 0.5) / height
    u = (np.arange(width)[None, :] + 0.5) / width
    whole = np.ones(size, dtype=bool)

    def rows(low: float, high: float) -> NDArray[np.bool_]:
        return whole & (v >= low) & (v < high)

    chevron = np.abs((v - 0.105) / 0.05 - 2 * np.abs((u * 16) % 1 - 0.5) + 0.2)
    scale_row = np.floor((v - 0.19) / 0.036)
    scale = np.hypot(((u * 18 + 0.5 * (scale_row % 2)) % 1 - 0.5) * 2, ((v - 0.19) / 0.036) % 1)
    x, y = ((u * 6) % 1 - 0.5) * 2, (v - 0.508) / 0.175
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    petals = 0.34 + 0.42 * np.abs(np.cos(4 * angle))
    rosette = ((radius < petals) & (radius > 0.24) & (np.abs(radius - 0.48 * petals) > 0.05)) | (radius < 0.13)
    dots = np.hypot((u * 30) % 1 - 0.5, ((v - 0.745) / 0.03 % 1) - 0.5) < 0.27

    paint = rows(0.045, 0.155) & (np.abs(chevron) < 0.16)
    paint |= rows(0.19, 0.30) & ((np.abs(scale - 0.85) < 0.13) | (scale < 0.3))
    paint |= rows(0.32, 0.695) & (rosette | (np.abs(radius - 0.93) < 0.05))
    paint |= rows(0.73, 0.85) & dots
    paint |= rows(0.885, 0.96) & ((u * 48) % 1 < 0.5)
    for line in ((0.0, 0.035), (0.16, 0.172), (0.18, 0.19), (0.30, 0.315), (0.70, 0.715), (0.86, 0.868), (0.97, 1)):
        paint |= rows(*line)
    ground, cobalt = np.array([0.91, 0.90, 0.86]), np.array([0.10, 0.20, 0.52])
    return to_bytes(ground + (cobalt - ground) * paint[..., None])


def painted_plate(size: tuple[int, int] = (256, 1024)) -> Texture:
    """A glazed plate (u around, row 0 the centre, last row the rim): ochre rings and a leaf border."""
    height, width = size
    v = (np.arange(height)[:, None] + 0.5) / height * np.ones((1, width))
    u = (np.arange(width)[None, :] + 0.5) / width
    leaf = np.abs(v - 0.80) < 0.10 * np.sqrt(np.clip(1 - (2 * ((u * 28) % 1) - 1) ** 2, 0, 1))
    vein = np.abs(v - 0.80 - 0.06 * (2 * ((u * 28) % 1) - 1)) < 0.012
    image = np.full((height, width, 3), (0.87, 0.83, 0.72))
    image[(np.abs(v - 0.62) < 0.02) | (v > 0.955) | (np.abs(v - 0.30) < 0.015)] = OCHRE
    image[leaf & ~vein] = (0.22, 0.38, 0.30)
    return to_bytes(image)


def leaf(rng: np.random.Generator, size: tuple[int, int] = (96, 160)) -> Texture:
    """The upper side of a leaf (u from stalk to tip, v across): a light midrib and slanting veins."""
    u = (np.arange(size[1])[None, :] + 0.5) / size[1]
    across = np.abs((np.arange(size[0])[:, None] + 0.5) / size[0] - 0.5)
    veins = np.clip(1 - np.abs(((u - 0.9 * across) * 7) % 1 - 0.5) / 0.13, 0, 1) * 0.45
    veins = np.maximum(veins, np.clip(1 - across / 0.05, 0, 1))
    green = np.array([0.26, 0.43, 0.17]) * (1 + 0.18 * noise(rng, size, (5, 8)))[..., None]
    return to_bytes(green + veins[..., None] * np.array([0.30, 0.26, 0.17]))


def peel(rng: np.random.Generator, color: Color, size: tuple[int, int] = (256, 512)) -> Texture:
    """The skin of a citrus fruit (row 0 is the stalk)."""
    pores = noise(rng, size, (48, 90))
    tone = 1 + 0.05 * noise(rng, size, (4, 8)) - 0.30 * np.clip(pores - 0.35, 0, 1)
    image = np.array(color) * tone[..., None]
    image[:9] = (0.30, 0.36, 0.16)
    return to_bytes(image)


def wallpaper(rng: np.random.Generator, size: tuple[int, int] = (512, 4096)) -> Texture:
    """Muted green paper with a pale trellis and small flowers, (row 0 is the top)."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width] + 0.5
    pitch = 64
    a, b = ((x + y) / pitch) % 1 - 0.5, ((x - y) / pitch) % 1 - 0.5
    trellis = (np.abs(a) > 0.475) | (np.abs(b) > 0.475)
    flower = np.hypot(a, b) < 0.16 + 0.07 * np.cos(5 * np.arctan2(b, a))
    image = np.full((height, width, 3), (0.29, 0.42, 0.40)) * (1 + 0.06 * noise(rng, size, (10, 80)))[..., None]
    image[trellis] = (0.44, 0.54, 0.49)
    image[flower] = (0.66, 0.60, 0.47)
    return to_bytes(image)


def printed_page(lines: Sequence[str], *, title: str, number: int, size: tuple[int, int] = (1080, 780)) -> Texture:
    """A page of a book: title, rule, lines of print filling the width, page number."""
    height, width = size
    page = Image.new("RGB", (width, height), _rgb((0.93, 0.90, 0.82)))
    draw = ImageDraw.Draw(page)
    margin = 64
    draw.text((width / 2, 74), title, font=_font(76), fill=_rgb(MADDER), anchor="mm")
    draw.rectangle((margin, 128, width - margin, 133), fill=_rgb(INK))
    step = (height - 128 - 110) / len(lines)
    for i, line in enumerate(lines):
        draw.text(
            (margin, 160 + (i + 0.5) * step), line, font=_fitting(line, width - 2 * margin), fill=_rgb(INK), anchor="lm"
        )
    draw.text((width / 2, height - 44), str(number), font=_font(44), fill=_rgb(INK), anchor="mm")
    return np.array(page)


def title_card(size: tuple[int, int] = (640, 480)) -> Texture:
    """A card with a name in large and small print inside a frame."""
    height, width = size
    card = Image.new("RGB", (width, height), _rgb((0.92, 0.89, 0.80)))
    draw = ImageDraw.Draw(card)
    draw.rectangle((22, 22, width - 22, height - 22), outline=_rgb(MADDER), width=10)
    draw.rectangle((42, 42, width - 42, height - 42), outline=_rgb(MADDER), width=4)
    draw.text((width / 2, 170), "qsplat", font=_font(136), fill=_rgb(INDIGO), anchor="mm")
    for i in range(9):
        x = width / 2 + (i - 4) * 40
        draw.ellipse((x - 12, 278, x + 12, 302), fill=_rgb((INDIGO, OCHRE, MADDER)[i % 3]))
    for i, line in enumerate(("still life", "with a book, a vase", "and a copper pot")):
        draw.text((width / 2, 372 + 74 * i), line, font=_font(50), fill=_rgb(INK), anchor="mm")
    return np.array(card)


def to_bytes(image: FloatImage) -> Texture:
    """Colours in [0, 1] as 8 bit."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fitting(line: str, width: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font in which ``line`` is ``width`` pixels long, but no larger than body text."""
    return _font(min(56.0, 50.0 * width / _font(50).getlength(line)))


def _rgb(color: Color) -> tuple[int, int, int]:
    red, green, blue = (round(255 * c) for c in color)
    return red, green, blue
