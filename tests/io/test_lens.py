"""Undistortion: geometry to a fraction of a pixel, and no pixel from outside the photo."""

import cv2
import numpy as np
import pytest

from qsplat.io.lens import Intrinsics, Lens, pinhole_intrinsics, undistort

SOURCE = Intrinsics(fx=180.0, fy=185.0, cx=122.0, cy=88.0, width=240, height=180)
LENSES = {
    "barrel": Lens("OPENCV", (-0.25, 0.05, 1e-3, -2e-3, 0.0), SOURCE),
    "pincushion": Lens("OPENCV", (0.15, 0.02, -1e-3, 1e-3, 0.0), SOURCE),
    "fisheye": Lens("OPENCV_FISHEYE", (0.02, -0.01, 0.002, 0.0), SOURCE),
}


def distorted_pixel(direction, lens):
    """Where the lens puts a direction (x, y, 1), in pixels with centres at +0.5; written from the models' equations."""
    x, y = direction
    source, r2 = lens.intrinsics, x * x + y * y
    if lens.model == "OPENCV_FISHEYE":
        theta = np.arctan(np.sqrt(r2))
        k1, k2, k3, k4 = lens.coefficients
        factor = theta * (1 + k1 * theta**2 + k2 * theta**4 + k3 * theta**6 + k4 * theta**8) / np.sqrt(r2)
        x, y = factor * x, factor * y
    else:
        k1, k2, p1, p2, k3 = lens.coefficients
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
    return np.array([source.fx * x + source.cx, source.fy * y + source.cy])


def blob(center):
    """A smooth spot whose centroid is ``center`` in pixels with centres at +0.5."""
    y, x = np.mgrid[: SOURCE.height, : SOURCE.width] + 0.5
    return np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * 2.0**2)).astype(np.float32)


@pytest.mark.parametrize("name", LENSES)
@pytest.mark.parametrize("direction", [(0.05, 0.1), (-0.35, 0.2), (0.3, -0.3)])
def test_a_point_moves_to_where_the_pinhole_camera_sees_it(name, direction):
    lens, (x, y) = LENSES[name], direction
    image = undistort(blob(distorted_pixel(direction, lens)), lens)
    rows, columns = np.mgrid[: SOURCE.height, : SOURCE.width] + 0.5
    weights = np.clip(image, 0, None)
    seen = [(weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum()]
    target = pinhole_intrinsics(lens)
    assert seen == pytest.approx([target.fx * x + target.cx, target.fy * y + target.cy], abs=0.1)


@pytest.mark.parametrize("name", LENSES)
def test_no_pixel_comes_from_outside_the_photo(name):
    """Every source coordinate of the undistorted image lies in the photo, and its border touches the photo's."""
    lens, target = LENSES[name], pinhole_intrinsics(LENSES[name])
    y, x = np.mgrid[: target.height + 1 : 4, : target.width + 1 : 4]
    directions = np.stack([(x - target.cx) / target.fx, (y - target.cy) / target.fy], axis=-1).reshape(-1, 2)
    pixels = np.array([distorted_pixel(direction, lens) for direction in directions])
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    assert (low > -0.1).all()
    assert (high < np.array([SOURCE.width, SOURCE.height]) + 0.1).all()
    assert np.abs(np.concatenate([low, high - [SOURCE.width, SOURCE.height]])).max() < 0.5


@pytest.mark.parametrize("name", ["barrel", "pincushion"])
def test_intrinsics_agree_with_those_of_opencv(name):
    lens, target = LENSES[name], pinhole_intrinsics(LENSES[name])
    size = (SOURCE.width, SOURCE.height)
    oracle, _ = cv2.getOptimalNewCameraMatrix(lens.intrinsics.opencv_matrix, np.array(lens.coefficients), size, 0, size)
    np.testing.assert_allclose(target.opencv_matrix, oracle, rtol=0.02)


def test_a_white_photo_stays_white():
    for lens in LENSES.values():
        np.testing.assert_allclose(undistort(np.ones((180, 240), dtype=np.float32), lens), 1.0, atol=1e-6)


def test_a_lens_that_folds_the_image_is_refused():
    with pytest.raises(ValueError, match="cannot be removed from an image of 240x180 pixels"):
        pinhole_intrinsics(Lens("OPENCV", (-3.0, 0.0, 0.0, 0.0, 0.0), SOURCE))
