"""Reading captures: folders with a transforms.json (nerfstudio, instant-ngp) or transforms_train.json (blender).

The first holds poses, intrinsics (for all frames or frame by frame), lens distortion, masks and sparse points; the
second one field of view, and RGBA images per split. Poses are normalised (see ``qsplat.io.poses``), lenses removed
(see ``qsplat.io.lens``); pixels are read by ``load_view``, one photo at a time, or by ``load_scene``, all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from qsplat.cameras import Camera
from qsplat.io.entries import Entry, image_name, read_description, read_entries
from qsplat.io.frames import Frame, Frames
from qsplat.io.images import read_mask, read_photo, shrink
from qsplat.io.lens import pinhole_intrinsics, undistort
from qsplat.io.points import read_points
from qsplat.io.poses import camera_from_world, normalising_similarity
from qsplat.io.scene import Scene, View
from qsplat.io.values import items, text


def read_frames(folder: Path | str, *, holdout_every: int = 8) -> Frames:
    """Read what a capture's files say, and the sizes of its images, but no pixels.

    Every ``holdout_every``-th frame in the order of names, from the first, is held out (0 holds out nothing), unless
    the files name the splits themselves: ``test_filenames`` (or ``val_filenames``), or transforms_test.json (or
    transforms_val.json).

    Raises:
        ValueError: a file is missing, unreadable or contradicts another; the sentence names it and the remedy.
    """
    folder = Path(folder)
    if holdout_every < 0:
        raise ValueError(f"holdout_every={holdout_every}: it must be 0 (hold out nothing) or more")
    if (folder / "transforms.json").is_file():
        source = folder / "transforms.json"
        description = read_description(source)
        train, test = _split(source, description, read_entries(source, description), holdout_every)
    elif (folder / "transforms_train.json").is_file():
        source, description = folder / "transforms_train.json", {}
        train, test = _blender_splits(folder, holdout_every)
    else:
        state = "holds neither transforms.json nor transforms_train.json" if folder.is_dir() else "is not a folder"
        raise ValueError(f"{folder} {state}: give the folder of a capture in nerfstudio's or blender's format")
    if not train:
        raise ValueError(f"{source}: no training views, {len(test)} held out: hold out fewer")
    common = sorted({entry.name for entry in train} & {entry.name for entry in test})
    if common:
        raise ValueError(f"{source}: {common[0]} is listed both for training and as held out: take it off one list")
    world_from_original = normalising_similarity([entry.pose for entry in (*train, *test)])
    points = text(source, description, "ply_file_path")
    return Frames(
        name=folder.resolve().name,
        train=tuple(_frame(entry, world_from_original) for entry in train),
        test=tuple(_frame(entry, world_from_original) for entry in test),
        points=read_points(folder / points, world_from_original) if points else None,
        world_from_original=torch.from_numpy(world_from_original),
    )


def load_view(frame: Frame, *, downscale: float | int = 1.0, max_side: int | None = None) -> View:
    """Read a photo, remove the lens, and shrink it by ``downscale`` or to ``max_side`` (see ``Frame.camera_at``).

    Raises:
        ValueError: the photo or its mask is missing, unreadable, truncated or of another size than described.
    """
    camera, full = frame.camera_at(downscale=downscale, max_side=max_side), frame.camera
    photo = read_photo(frame.path)
    layers = [photo.image] if photo.alpha is None else [photo.image, photo.alpha[..., None]]
    pixels = np.concatenate(layers, axis=-1)
    _check_size(frame.path, pixels, full)
    if frame.lens is not None:
        pixels = undistort(pixels, frame.lens)
    values = torch.from_numpy(shrink(pixels, camera.width, camera.height)).clamp(0, 1)
    return View(
        name=frame.name,
        camera=camera,
        image=values[..., :3].contiguous(),
        alpha=values[..., 3].contiguous() if photo.alpha is not None else None,
        mask=_load_mask(frame, frame.mask_path, camera) if frame.mask_path is not None else None,
    )


def load_scene(
    folder: Path | str, *, downscale: float | int = 1.0, max_side: int | None = None, holdout_every: int = 8
) -> Scene:
    """Read a capture with all its photos, shrunk by ``downscale`` or to ``max_side``.

    Raises:
        ValueError: as ``read_frames`` and ``load_view``.
    """
    capture = read_frames(folder, holdout_every=holdout_every)
    load = partial(load_view, downscale=downscale, max_side=max_side)
    with ThreadPoolExecutor() as pool:
        train, test = (tuple(pool.map(load, frames)) for frames in (capture.train, capture.test))
    return Scene(capture.name, train, test, capture.points, capture.world_from_original)


def _split(
    source: Path, description: dict[str, Any], entries: Sequence[Entry], holdout_every: int
) -> tuple[list[Entry], list[Entry]]:
    """Training and held-out entries: as the file lists them, or with every ``holdout_every``-th held out."""
    listed: dict[str, set[str]] = {}
    for key in ("train_filenames", "test_filenames", "val_filenames"):
        given = items(source, description, key)
        if given is None:
            continue
        for name in given:
            if not isinstance(name, str):
                raise ValueError(f"{source}: {key} holds {name!r} instead of a file name: correct the list")
        names = {image_name(name) for name in given}
        unknown = sorted(names - {entry.name for entry in entries})
        if unknown:
            raise ValueError(f"{source}: {key} lists {unknown[0]}, which is not among the frames: correct the list")
        listed[key] = names
    if listed:
        validation = listed.get("val_filenames", set())
        test = listed.get("test_filenames", validation)
        train = listed.get("train_filenames", {entry.name for entry in entries} - test - validation)
    else:
        test = {entry.name for entry in entries[::holdout_every]} if holdout_every else set()
        train = {entry.name for entry in entries} - test
    return [entry for entry in entries if entry.name in train], [entry for entry in entries if entry.name in test]


def _blender_splits(folder: Path, holdout_every: int) -> tuple[list[Entry], list[Entry]]:
    """Entries of transforms_train.json, and of the first of transforms_test.json and transforms_val.json there is."""
    source = folder / "transforms_train.json"
    entries = read_entries(source, read_description(source))
    for held_out in (folder / "transforms_test.json", folder / "transforms_val.json"):
        if held_out.is_file():
            return entries, read_entries(held_out, read_description(held_out))
    return _split(source, {}, entries, holdout_every)


def _frame(entry: Entry, world_from_original: Float[np.ndarray, "4 4"]) -> Frame:
    distorted = any(entry.lens.coefficients) or entry.lens.model == "OPENCV_FISHEYE"
    pinhole = pinhole_intrinsics(entry.lens) if distorted else entry.lens.intrinsics
    camera = Camera(
        cam_from_world=torch.from_numpy(camera_from_world(entry.pose, world_from_original)).float(),
        fx=pinhole.fx,
        fy=pinhole.fy,
        cx=pinhole.cx,
        cy=pinhole.cy,
        width=pinhole.width,
        height=pinhole.height,
    )
    return Frame(entry.name, entry.path, entry.mask_path, camera, entry.lens if distorted else None)


def _load_mask(frame: Frame, path: Path, camera: Camera) -> Bool[torch.Tensor, "h w"]:
    """The mask as the camera sees it; a pixel counts when everything it covers does."""
    mask = read_mask(path).astype(np.float32)
    _check_size(path, mask, frame.camera)
    if frame.lens is not None:
        mask = undistort(mask, frame.lens, nearest=True)
    return torch.from_numpy(shrink(mask, camera.width, camera.height) > 0.999)


def _check_size(path: Path, pixels: Float[np.ndarray, "h w *c"], camera: Camera) -> None:
    height, width = pixels.shape[:2]
    if (width, height) != (camera.width, camera.height):
        raise ValueError(
            f"{path} has {width}x{height} pixels instead of {camera.width}x{camera.height}: "
            "masks and photos must have the size that the poses were estimated with"
        )
