"""Small captures written to a temporary folder, right in every respect unless a test breaks one."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def look_at_origin(position) -> np.ndarray:
    """Camera to world in OpenGL axes (y up, looking along -z), world up +z."""
    back = np.asarray(position, dtype=float) / np.linalg.norm(position)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(back, right), back], axis=1)
    pose[:3, 3] = position
    return pose


def ring(count: int, radius: float = 4.0, height: float = 1.5) -> list[np.ndarray]:
    """Poses around the origin."""
    angles = np.arange(count) * 2 * np.pi / count
    return [look_at_origin([radius * np.cos(a), radius * np.sin(a), height]) for a in angles]


class Capture:
    """A folder with 24x16 photos around the origin and a transforms.json that ``description`` becomes."""

    def __init__(self, folder: Path, count: int = 10):
        self.folder, rng = folder, np.random.default_rng(0)
        (folder / "images").mkdir(parents=True)
        self.description = {
            "camera_model": "OPENCV",
            "w": 24,
            "h": 16,
            "fl_x": 20.0,
            "fl_y": 21.0,
            "cx": 12.5,
            "cy": 7.5,
            "frames": [
                {"file_path": f"images/{index:03d}.png", "transform_matrix": pose.tolist()}
                for index, pose in enumerate(ring(count))
            ],
        }
        for frame in self.description["frames"]:
            Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(folder / frame["file_path"])

    @property
    def frames(self) -> list[dict]:
        return self.description["frames"]

    def write(self, name: str = "transforms.json") -> Path:
        (self.folder / name).write_text(json.dumps(self.description))
        return self.folder

    def image_path(self, index: int) -> Path:
        return self.folder / self.frames[index]["file_path"]


@pytest.fixture
def capture(tmp_path) -> Capture:
    return Capture(tmp_path / "capture")
