"""Image to sharper image: the queried-convolution network."""

from qsplat.qnn.images import crop_residual, image_residual, window_residual
from qsplat.qnn.network import QNN, QnnConfig
from qsplat.qnn.queries import Queries, part_queries, pixel_queries

__all__ = [
    "QNN",
    "QnnConfig",
    "Queries",
    "crop_residual",
    "image_residual",
    "part_queries",
    "pixel_queries",
    "window_residual",
]
