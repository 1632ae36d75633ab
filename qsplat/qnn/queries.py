"""What the network is told about a pixel besides its colour."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from qsplat.cameras import Camera


def pixel_queries(camera: Camera) -> Float[Tensor, "h w 2"]:
    """Coordinates (x, y) of the pixels that ``camera`` renders, from -1 to 1 across its whole image.

    They depend neither on the resolution nor on the window: a pixel of a crop has the coordinate it has in the whole
    image, and halving the resolution halves the number of coordinates in the same range.
    """
    pixels = camera.pixel_centers()
    return pixels * (2 / pixels.new_tensor([camera.width, camera.height])) - 1
