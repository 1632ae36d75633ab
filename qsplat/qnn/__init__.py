"""Image to sharper image: the queried-convolution network."""

from qsplat.qnn.images import image_residual, window_residual
from qsplat.qnn.network import QNN, QnnConfig
from qsplat.qnn.queries import pixel_queries

__all__ = ["QNN", "QnnConfig", "image_residual", "pixel_queries", "window_residual"]
