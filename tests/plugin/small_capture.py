"""A small capture in nerfstudio's format, and what ns-train does with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from plyfile import PlyData, PlyElement
from scipy.spatial.transform import Rotation

from qsplat.cameras import Camera
from qsplat.gaussians import Splats
from qsplat.render import rasterize

WIDTH, HEIGHT, VIEWS = 48, 36, 10
FOCAL = 50.0


def looking_at_the_origin(angle: float) -> np.ndarray:
    """world_from_cam [4, 4] in OpenGL axes of a camera three units away, with z up."""
    center = np.array([3 * np.cos(angle), 3 * np.sin(angle), 1.0])
    backward = center / np.linalg.norm(center)
    right = np.cross([0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(backward, right), backward, center], axis=1)
    return pose


def blobs(count: int = 60) -> Splats:
    generator = torch.Generator().manual_seed(0)
    return Splats(
        means=torch.randn(count, 3, generator=generator) * 0.5,
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        scales=torch.rand(count, 3, generator=generator) * 0.15 + 0.05,
        opacities=torch.full((count,), 0.9),
        features=torch.rand(count, 3, generator=generator),
    )


def write_capture(folder: Path, *, transparent: bool = False, masked: bool = False) -> Path:
    """Photos of the blobs from a circle, their poses and their centres as sparse points."""
    (folder / "images").mkdir(parents=True)
    splats, frames = blobs(), []
    for index in range(VIEWS):
        pose = looking_at_the_origin(2 * np.pi * index / VIEWS)
        opencv = pose.copy()
        opencv[:3, 1:3] *= -1
        camera = Camera(
            torch.from_numpy(np.linalg.inv(opencv)).float(), FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT
        )
        drawn = rasterize(splats, camera)
        image, alpha = drawn.color, drawn.alpha[..., None]
        pixels = torch.cat([image / alpha.clamp_min(1e-6), alpha], dim=-1) if transparent else image
        name = f"images/{index:03d}.png"
        Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().numpy()).save(folder / name)
        frame: dict[str, Any] = {"file_path": name, "transform_matrix": pose.tolist()}
        if masked:
            mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
            mask[:, : WIDTH // 2] = 0
            frame["mask_path"] = f"mask_{index}.png"
            Image.fromarray(mask).save(folder / frame["mask_path"])
        frames.append(frame)
    kinds = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    assert splats.features is not None
    colors = (splats.features * 255).byte().tolist()
    rows = [(*point, *color) for point, color in zip(splats.means.tolist(), colors, strict=True)]
    PlyData([PlyElement.describe(np.array(rows, dtype=kinds), "vertex")]).write(str(folder / "points.ply"))
    description = {
        "w": WIDTH, "h": HEIGHT, "fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2,
        "ply_file_path": "points.ply", "frames": frames,
    }  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(description))
    return folder


def write_blender_files(folder: Path) -> None:
    """The frames of a capture as the files of a blender scene: one to validate, one to test, the others to train on."""
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    for frame in frames:
        frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")
    angle = 2 * np.arctan(WIDTH / (2 * FOCAL))
    for split, part in {"train": frames[:-2], "val": frames[-2:-1], "test": frames[-1:]}.items():
        description = {"camera_angle_x": angle, "frames": part}
        (folder / f"transforms_{split}.json").write_text(json.dumps(description))


def write_colmap_model(capture: Path, folder: Path) -> None:
    """The cameras of a capture and the centres of the blobs as a text model of COLMAP."""
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text(f"1 PINHOLE {WIDTH} {HEIGHT} {FOCAL} {FOCAL} {WIDTH / 2} {HEIGHT / 2}\n")
    images = []
    for index, frame in enumerate(json.loads((capture / "transforms.json").read_text())["frames"], start=1):
        pose = np.linalg.inv(np.array(frame["transform_matrix"]) * [1, -1, -1, 1])
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        numbers = " ".join(map(str, (w, x, y, z, *pose[:3, 3])))
        images.append(f"{index} {numbers} 1 {Path(frame['file_path']).name}\n\n")
    (folder / "images.txt").write_text("".join(images))
    points = [f"{index} {x} {y} {z} 255 128 0 0.5\n" for index, (x, y, z) in enumerate(blobs().means.tolist(), start=1)]
    (folder / "points3D.txt").write_text("".join(points))


def run(config: Any) -> Any:
    """Train as ns-train does, and return the trainer."""
    torch.manual_seed(config.machine.seed)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer


def camera_at(dataset: Any, index: int) -> Any:
    return dataset.cameras[index : index + 1]


def held_out(trainer: Any) -> Any:
    """The first camera that is held out."""
    return camera_at(trainer.pipeline.datamanager.eval_dataset, 0)
