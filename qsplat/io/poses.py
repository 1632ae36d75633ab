"""Poses as files hold them: checked, turned to OpenCV axes, and moved to a common place and size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

RIGID_TOLERANCE = 1e-2
"""How far R^T R may be from the identity: above what rounding to three digits leaves, below any real scale or shear."""

_OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def world_from_camera(matrix: object, *, source: Path, name: str) -> Float[np.ndarray, "4 4"]:
    """The pose of an OpenCV camera from a ``transform_matrix`` (camera to world, OpenGL axes: y up, looking along -z).

    Raises:
        ValueError: it is no 3x4 or 4x4 matrix, is not finite, or its rotation is singular, scaled, sheared or mirrored.
    """
    where = f"{source}: the transform_matrix of frame {name}"
    remedy = "repeat the pose estimation or remove the frame"
    try:
        pose = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{where} is not a matrix of numbers: {remedy}") from None
    if pose.shape not in ((3, 4), (4, 4)):
        raise ValueError(f"{where} has shape {pose.shape} instead of 4x4: {remedy}")
    if not np.isfinite(pose).all():
        raise ValueError(f"{where} holds NaN or infinity: {remedy}")
    rotation = pose[:3, :3]
    determinant = float(np.linalg.det(rotation))
    if determinant <= 0:
        kind = "singular" if abs(determinant) < 1e-9 else "mirrored"
        raise ValueError(f"{where} is {kind} (determinant {determinant:.3g} instead of 1): {remedy}")
    deviation = float(np.abs(rotation.T @ rotation - np.eye(3)).max())
    if deviation > RIGID_TOLERANCE:
        raise ValueError(f"{where} is not rigid (R^T R is {deviation:.3g} away from the identity): {remedy}")
    left, _, right = np.linalg.svd(rotation)
    rigid = np.eye(4)
    rigid[:3, :3], rigid[:3, 3] = left @ right, pose[:3, 3]
    return rigid @ _OPENGL_FROM_OPENCV


def normalising_similarity(poses: Sequence[Float[np.ndarray, "4 4"]]) -> Float[np.ndarray, "4 4"]:
    """The similarity ``world_from_original`` that normalises a capture.

    The mean camera centre goes to the origin, the mean up direction of the cameras to +z, and the largest coordinate
    of a camera centre to 1. ``poses`` are world from camera in OpenCV axes.
    """
    centers = np.stack([pose[:3, 3] for pose in poses])
    up = -np.stack([pose[:3, 1] for pose in poses]).mean(axis=0)
    rotation = _rotation_to_z(up)
    moved = (centers - centers.mean(axis=0)) @ rotation.T
    extent = float(np.abs(moved).max())
    scale = 1.0 / extent if extent > 1e-9 else 1.0
    similarity = np.eye(4)
    similarity[:3, :3] = scale * rotation
    similarity[:3, 3] = -scale * rotation @ centers.mean(axis=0)
    return similarity


def camera_from_world(
    pose: Float[np.ndarray, "4 4"], world_from_original: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "4 4"]:
    """The inverse of ``pose`` (world from camera) after a similarity moved its world. The result is rigid."""
    scale = float(np.cbrt(np.linalg.det(world_from_original[:3, :3])))
    rotation = (world_from_original[:3, :3] / scale @ pose[:3, :3]).T
    center = world_from_original[:3, :3] @ pose[:3, 3] + world_from_original[:3, 3]
    inverse = np.eye(4)
    inverse[:3, :3], inverse[:3, 3] = rotation, -rotation @ center
    return inverse


def _rotation_to_z(direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation that takes ``direction`` to +z; the identity where there is no direction."""
    length = float(np.linalg.norm(direction))
    if length < 1e-6:
        return np.eye(3)
    x, y, z = direction / length
    if z < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    # Rodrigues' formula for the axis direction x ez, whose length is the sine of the angle and z its cosine
    cross = np.array([[0.0, 0.0, -x], [0.0, 0.0, -y], [x, y, 0.0]])
    return np.eye(3) + cross + cross @ cross / (1 + z)
