"""Photos and masks: files to arrays, and shrinking them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, UnidentifiedImageError


@dataclass(frozen=True)
class Photo:
    """RGB in [0, 1], premultiplied by ``alpha`` where the file has that channel."""

    image: Float[np.ndarray, "h w 3"]
    alpha: Float[np.ndarray, "h w"] | None


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image, from its header alone.

    Raises:
        ValueError: there is no such file, or it is no image.
    """
    with _opened(path) as file:
        return file.size


def read_photo(path: Path) -> Photo:
    """Read a photo of 8 or 16 bits, grey or colour, with or without alpha. EXIF rotation is ignored, as pose
    estimators do.

    Raises:
        ValueError: the file is missing, unreadable or truncated.
    """
    with _opened(path) as file:
        try:
            if file.mode.startswith("I"):
                grey = np.asarray(file, dtype=np.float32) / 65535
                return Photo(np.repeat(grey[..., None], 3, axis=-1), None)
            transparent = file.mode in ("RGBA", "LA", "PA") or "transparency" in file.info
            values = np.asarray(file.convert("RGBA" if transparent else "RGB"), dtype=np.float32) / 255
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}): replace it, or remove its frame") from None
    if not transparent:
        return Photo(values, None)
    return Photo(values[..., :3] * values[..., 3:], values[..., 3])


def read_mask(path: Path) -> Bool[np.ndarray, "h w"]:
    """Read a mask: True where the image is brighter than half of its brightest pixel (255, or 1, or whatever the
    program that wrote it calls true).

    Raises:
        ValueError: the file is missing, unreadable or truncated.
    """
    grey = read_photo(path).image.mean(axis=-1)
    return grey > grey.max() / 2


def shrink(image: Float[np.ndarray, "h w *c"], width: int, height: int) -> Float[np.ndarray, "h2 w2 *c"]:
    """The image at a smaller size, each pixel the average of the area it covers."""
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: restore the image, or remove its frame") from None
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable image ({error}): replace it, or remove its frame") from None
