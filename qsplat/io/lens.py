"""Removing lens distortion: a photo of a real lens becomes the photo of a pinhole camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Shaped

LensModel = Literal["OPENCV", "OPENCV_FISHEYE"]


@dataclass(frozen=True)
class Intrinsics:
    """Focal lengths and principal point in pixels, pixel centres at +0.5, of an image of ``width`` x ``height``."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def opencv_matrix(self) -> Float[np.ndarray, "3 3"]:
        """K for cv2, whose pixel centres are whole numbers."""
        return np.array([[self.fx, 0.0, self.cx - 0.5], [0.0, self.fy, self.cy - 0.5], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Lens:
    """The distorted camera that took a photo.

    ``coefficients`` are (k1, k2, p1, p2, k3) of the model OPENCV and (k1, k2, k3, k4) of OPENCV_FISHEYE.
    """

    model: LensModel
    coefficients: tuple[float, ...]
    intrinsics: Intrinsics


def pinhole_intrinsics(lens: Lens) -> Intrinsics:
    """The pinhole camera of the same size that shows the largest rectangle without a pixel from outside the photo.

    This is cv2's getOptimalNewCameraMatrix with alpha=0, from a finer border and for both models.

    Raises:
        ValueError: the model cannot be inverted over the photo, or the photo sees 180 degrees or more.
    """
    source = lens.intrinsics
    x, y = np.linspace(0, source.width, 65), np.linspace(0, source.height, 65)
    left, right = (_undistorted(_pairs(edge, y), lens)[:, 0] for edge in (0.0, source.width))
    top, bottom = (_undistorted(_pairs(x, edge), lens)[:, 1] for edge in (0.0, source.height))
    x0, x1, y0, y1 = left.max(), right.min(), top.max(), bottom.min()
    if not (np.isfinite([x0, x1, y0, y1]).all() and x0 < x1 and y0 < y1 and _inside(lens, x0, x1, y0, y1)):
        raise ValueError(
            f"{lens.model} distortion {lens.coefficients} cannot be removed from an image of "
            f"{source.width}x{source.height} pixels: check the coefficients, or undistort the photos with the program "
            "that estimated the poses"
        )
    fx, fy = source.width / (x1 - x0), source.height / (y1 - y0)
    return Intrinsics(float(fx), float(fy), float(-x0 * fx), float(-y0 * fy), source.width, source.height)


def undistort(
    image: Shaped[np.ndarray, "h w ..."], lens: Lens, *, nearest: bool = False
) -> Shaped[np.ndarray, "h w ..."]:
    """The image as ``pinhole_intrinsics(lens)`` sees it: cubic interpolation, or the nearest pixel (for masks)."""
    target = pinhole_intrinsics(lens)
    fisheye = lens.model == "OPENCV_FISHEYE"
    maps = (cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap)(
        lens.intrinsics.opencv_matrix,
        np.array(lens.coefficients),
        np.eye(3),
        target.opencv_matrix,
        (target.width, target.height),
        cv2.CV_32FC1,
    )
    method = cv2.INTER_NEAREST if nearest else cv2.INTER_CUBIC
    return cv2.remap(image, *maps, interpolation=method, borderMode=cv2.BORDER_REPLICATE)


def _pairs(
    x: Float[np.ndarray, " n"] | float | int, y: Float[np.ndarray, " n"] | float | int
) -> Float[np.ndarray, "n 2"]:
    return np.stack(np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float)), axis=-1)


def _undistorted(pixels: Float[np.ndarray, "n 2"], lens: Lens) -> Float[np.ndarray, "n 2"]:
    """Directions (x/z, y/z) of points of the photo, in pixels with edges at whole numbers."""
    matrix, coefficients, points = lens.intrinsics.opencv_matrix, np.array(lens.coefficients), pixels[:, None] - 0.5
    if lens.model == "OPENCV_FISHEYE":
        return cv2.fisheye.undistortPoints(points, matrix, coefficients)[:, 0]
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-9)
    straight = cv2.undistortImagePoints(points, matrix, coefficients, None, stop)[:, 0]
    return (straight - matrix[:2, 2]) / matrix[[0, 1], [0, 1]]


def _inside(lens: Lens, x0: float, x1: float, y0: float, y1: float) -> bool:
    """Whether the border of a rectangle of directions comes from inside the photo (within a pixel)."""
    across, down = np.linspace(x0, x1, 65), np.linspace(y0, y1, 65)
    border = np.concatenate([_pairs(x0, down), _pairs(x1, down), _pairs(across, y0), _pairs(across, y1)])
    matrix, coefficients = lens.intrinsics.opencv_matrix, np.array(lens.coefficients)
    if lens.model == "OPENCV_FISHEYE":
        pixels = cv2.fisheye.distortPoints(border[:, None], matrix, coefficients)[:, 0] + 0.5
    else:
        points = np.concatenate([border, np.ones_like(border[:, :1])], axis=1)
        pixels = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, coefficients)[0][:, 0] + 0.5
    size = np.array([lens.intrinsics.width, lens.intrinsics.height])
    return bool((pixels > -1).all() and (pixels < size + 1).all())
