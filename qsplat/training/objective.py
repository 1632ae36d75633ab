"""What a step makes smaller: in each phase of a training another part of the difference from the photo."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from qsplat.cameras import Window
from qsplat.qnn.images import rows_and_columns
from qsplat.training.losses import photometric_loss
from qsplat.training.schedule import Phase


@dataclass(frozen=True)
class PhotoLoss:
    """The photometric loss against one photo; the arguments are those of ``photometric_loss``."""

    photo: Float[Tensor, "h w 3"]
    mask: Bool[Tensor, "h w"] | None = None
    ssim_weight: float = 0.2
    threads: int | None = None

    def of(self, image: Float[Tensor, "h w 3"], window: Window | None = None) -> Float[Tensor, ""]:
        """That of ``image``, or of its part in ``window`` as if that were all."""
        height, width, _ = image.shape
        here = rows_and_columns(window or Window(0, 0, width, height))
        return photometric_loss(
            image[here],
            self.photo[here],
            ssim_weight=self.ssim_weight,
            mask=None if self.mask is None else self.mask[here],
            threads=self.threads,
        )

    def in_phase(
        self, phase: Phase, rgb: Float[Tensor, "h w 3"], base: Float[Tensor, "h w 3"], window: Window | None
    ) -> Float[Tensor, ""]:
        """The loss of a step: of the image ``rgb``, which the head corrected in ``window``, where that moves the
        Gaussians; otherwise of its window alone, and of the Gaussians' own image ``base`` if they go on learning."""
        match phase:
            case "splatting" | "joint":
                return self.of(rgb)
            case "detached":
                return self.of(base) + self.of(rgb, window)
            case "frozen":
                return self.of(rgb, window)
