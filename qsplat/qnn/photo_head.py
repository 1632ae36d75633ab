"""The head that reads photo queries: how far to believe, at each pixel, what the photos say is missing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from qsplat.qnn.network import QNN, QnnConfig
from qsplat.qnn.photos import PhotoQueries

GAIN = 3.0
"""Factor on the network's output, which makes it quick to reach a belief of 1."""


def require_photos(config: QnnConfig) -> None:
    """Check that a network of ``config`` can read photo queries.

    Raises:
        ValueError: it is for signals of one dimension, for other queries, or for none.
    """
    if (config.dims, config.query) != (2, "pixels") or config.input == "render":
        raise ValueError(
            f"dims={config.dims}, query={config.query!r}, input={config.input!r}: a head that reads photos has dims=2, "
            "query='pixels' and input='both' or 'queries'"
        )


class PhotoHead(QNN):
    """A QNN that sees the image and the photo queries, and gives a belief b for each pixel.

    residual = (s + a b) r, where r is what the photos say is missing (the first three photo queries), s is a belief
    that is the same everywhere and a the factor with which b counts: ``belief``, (0, 1) at birth. b is 0 at birth, is
    not bound to [0, 1], and is one number for all colours. With the default configuration it has 80,833 parameters.

    ``photos`` are its queries; a new head has none to read. They are no part of its state, and stay where they are when
    it goes to another device.
    """

    belief: Tensor

    def __init__(self, config: QnnConfig | None = None) -> None:
        """A new head.

        Raises:
            ValueError: ``config`` is none for this head.
        """
        config = config or QnnConfig(activation="leaky_relu")
        require_photos(config)
        super().__init__(config, queries=PhotoQueries([]), output_channels=1)
        self.register_buffer("belief", torch.tensor([0.0, 1.0]))

    @property
    def photos(self) -> PhotoQueries:
        """What it is told about the pixels."""
        assert isinstance(self.queries, PhotoQueries)
        return self.queries

    @photos.setter
    def photos(self, photos: PhotoQueries) -> None:
        self.queries = photos

    def forward(
        self, signal: Float[Tensor, "b 3 h w"], queries: Float[Tensor, "#b 8 h w"] | None
    ) -> Float[Tensor, "b 3 h w"]:
        """The residual to add to the image ``signal``."""
        assert queries is not None
        everywhere, factor = self.belief.tolist()
        belief = everywhere + factor * GAIN * super().forward(signal, queries) if factor else everywhere
        return belief / PhotoQueries.SCALE * queries[:, :3]
