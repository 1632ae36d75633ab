"""What a transforms file says about each of its frames: image, mask, pose, intrinsics and lens."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from qsplat.io.images import image_size
from qsplat.io.lens import Intrinsics, Lens
from qsplat.io.poses import world_from_camera
from qsplat.io.values import items, number, text, view_angle

PERSPECTIVE_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")


@dataclass(frozen=True)
class Entry:
    """A frame as its file describes it: ``pose`` is world from camera in OpenCV axes, not normalised; the
    coefficients of ``lens`` may all be zero."""

    name: str
    path: Path
    mask_path: Path | None
    pose: Float[np.ndarray, "4 4"]
    lens: Lens


def read_description(source: Path) -> dict[str, Any]:
    """The contents of a transforms file.

    Raises:
        ValueError: it is no JSON, or has no frames.
    """
    try:
        description = json.loads(source.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{source} is not valid JSON ({error}): correct it or export the capture again") from None
    if not isinstance(description, dict) or not isinstance(description.get("frames"), list):
        raise ValueError(f"{source} has no list named frames: export the capture again")
    if not description["frames"]:
        raise ValueError(f"{source} lists 0 frames: no training views; export the capture again")
    return description


def read_entries(source: Path, description: dict[str, Any]) -> list[Entry]:
    """The frames that ``description`` (the contents of ``source``) lists, in the order of their names.

    Values of a frame go before those of the whole file. Image headers are read, pixels are not.

    Raises:
        ValueError: an image is missing or of another size than described, a pose is no pose, a value is missing or of
            another kind, or the camera model is not known.
    """
    entries = [_entry(source, description, frame) for frame in description["frames"]]
    return sorted(entries, key=lambda entry: entry.name)


def image_name(file_path: str) -> str:
    """``file_path`` as a transforms file writes it, in one spelling (./images/a.jpg and images/a.jpg are the same)."""
    return Path(file_path.replace("\\", "/")).as_posix()


def _entry(source: Path, description: dict[str, Any], frame: dict[str, Any]) -> Entry:
    file_path = text(source, frame, "file_path") if isinstance(frame, dict) else None
    if file_path is None or "transform_matrix" not in frame:
        missing = "file_path" if file_path is None else "transform_matrix"
        raise ValueError(f"{source}: a frame has no {missing}: add it or export the capture again")
    values = {**{key: value for key, value in description.items() if key != "frames"}, **frame}
    name = image_name(file_path)
    suffix = next((end for end in SUFFIXES if (source.parent / (name + end)).is_file()), "")
    path = source.parent / (name + suffix)
    mask = text(source, values, "mask_path")
    return Entry(
        name=name + suffix,
        path=path,
        mask_path=source.parent / image_name(mask) if mask else None,
        pose=world_from_camera(frame["transform_matrix"], source=source, name=name),
        lens=_lens(source, path, values),
    )


def _lens(source: Path, path: Path, values: dict[str, Any]) -> Lens:
    model = values.get("camera_model", "OPENCV")
    if model not in (*PERSPECTIVE_MODELS, "OPENCV_FISHEYE"):
        known = ", ".join((*PERSPECTIVE_MODELS, "OPENCV_FISHEYE"))
        raise ValueError(
            f"{source}: camera_model {model!r} is not supported: use one of {known}, or undistort the photos"
        )
    intrinsics = _intrinsics(source, path, values)
    names = ("k1", "k2", "k3", "k4", "p1", "p2")
    values = {**values, **dict(zip(names, items(source, values, "distortion_params") or [], strict=False))}
    k1, k2, k3, k4, p1, p2 = (number(source, values, name, 0.0) for name in names)
    if model == "OPENCV_FISHEYE":
        return Lens("OPENCV_FISHEYE", (k1, k2, k3, k4), intrinsics)
    if k4:
        raise ValueError(f"{source}: k4={k4} belongs to camera_model OPENCV_FISHEYE, not to {model}: correct the model")
    return Lens("OPENCV", (k1, k2, p1, p2, k3), intrinsics)


def _intrinsics(source: Path, path: Path, values: dict[str, Any]) -> Intrinsics:
    width, height = image_size(path)
    described = tuple(round(number(source, values, key, side)) for key, side in (("w", width), ("h", height)))
    if described != (width, height):
        raise ValueError(
            f"{path} has {width}x{height} pixels, but {source} says {described[0]}x{described[1]}: "
            "use the images the poses were estimated with, or scale w, h, fl_x, fl_y, cx and cy to theirs"
        )
    fx = _focal(source, values, "x", width)
    if fx is None:
        raise ValueError(f"{source} has neither fl_x nor camera_angle_x: add the focal length in pixels")
    fy = _focal(source, values, "y", height)
    fy = fx if fy is None else fy
    cx, cy = (number(source, values, key, side / 2) for key, side in (("cx", width), ("cy", height)))
    if not ({"w", "h"} & values.keys() or (0 < cx < width and 0 < cy < height)):
        raise ValueError(
            f"{path} has {width}x{height} pixels, and the principal point cx={cx} cy={cy} of {source} lies outside: "
            "use the images the poses were estimated with, or scale fl_x, fl_y, cx and cy to theirs"
        )
    if fx <= 0 or fy <= 0:
        raise ValueError(f"{source}: focal lengths fl_x={fx} fl_y={fy} must be positive: correct them")
    return Intrinsics(fx, fy, cx, cy, width, height)


def _focal(source: Path, values: dict[str, Any], axis: str, side: int) -> float | None:
    """Focal length in pixels, from fl_x or camera_angle_x (radians); None where there is neither."""
    if f"fl_{axis}" in values:
        return number(source, values, f"fl_{axis}", 0.0)
    if f"camera_angle_{axis}" in values:
        return side / 2 / math.tan(view_angle(source, values, f"camera_angle_{axis}") / 2)
    return None
