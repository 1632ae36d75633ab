"""Make the bundled scene: photographs of a still life, their cameras and sparse points.

    python scripts/make_scene.py --output scenes/stilllife

Needs mitsuba (``pip install -e ".[scene]"``); only its ``scalar_rgb`` variant is used, so no GPU and no LLVM. The
shapes, textures, cameras and points follow from ``--seed`` alone. The output is a nerfstudio-format folder:
``transforms.json`` (OpenGL camera axes, intrinsics in pixels), ``images/*.jpg`` and ``points3d.ply``.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image
from stilllife.composition import still_life
from stilllife.orbit import Orbit, orbit
from stilllife.sparse_points import SparsePoints, sparse_points
from stilllife.studio import lit, mitsuba, photograph

POINTS = "points3d.ply"


@dataclass(frozen=True)
class Options:
    """What to make and how well."""

    output: Annotated[Path, tyro.conf.arg(help="folder to write, replaced when it exists")] = Path("scenes/stilllife")
    views: int = 60
    width: int = 320
    height: int = 240
    samples: Annotated[int, tyro.conf.arg(help="light paths per pixel")] = 36
    points: Annotated[int, tyro.conf.arg(help="most sparse points to keep")] = 8000
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("views", "width", "height", "samples", "points", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name)}: must be at least 1")
        if min(self.width, self.height) < 16:
            raise ValueError(f"--width {self.width} --height {self.height}: photographs need at least 16 pixels a side")


def make(options: Options) -> None:
    """Render and write the scene; the folder appears only when it is complete.

    Raises:
        ValueError: there is something else than an earlier scene where it is to be written.
    """
    _refuse_to_replace_others(options.output)
    mi = mitsuba(options.threads)
    start = time.monotonic()
    rng = np.random.default_rng(options.seed)
    cameras = orbit(rng, options.views, width=options.width, height=options.height)
    scene = lit(mi, still_life(options.seed))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.output.parent) as temporary:
        folder = Path(temporary) / "scene"
        write(folder, cameras, _photographs(mi, scene, cameras, options.samples))
        points = sparse_points(mi, scene, cameras, stored_photographs(folder), rng, count=options.points)
        write_points(folder / POINTS, points)
        if options.output.exists():
            shutil.rmtree(options.output)
        folder.rename(options.output)
    seconds = time.monotonic() - start
    size = sum(path.stat().st_size for path in options.output.rglob("*") if path.is_file())
    counts = f"{options.views} views, {len(points.positions)} points"
    print(f"{options.output}: {counts}, {size / 1e6:.1f} MB, {seconds:.0f} s")


def _refuse_to_replace_others(output: Path) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not all((output / name).is_file() for name in ("transforms.json", POINTS)):
        raise ValueError(f"--output {output} holds something that is no earlier scene: give another folder")


def write(folder: Path, cameras: Orbit, photos: NDArray[np.uint8]) -> None:
    """Write a nerfstudio-format folder but for its points."""
    (folder / "images").mkdir(parents=True)
    frames: list[dict[str, Any]] = []
    for index, photo in enumerate(photos):
        name = f"images/view_{index:03d}.jpg"
        Image.fromarray(photo).save(folder / name, quality=95, subsampling=0, optimize=True)
        frames.append({"file_path": name, "transform_matrix": np.round(cameras.poses[index], 8).tolist()})
    document = {
        "camera_model": "PINHOLE",
        "w": cameras.width,
        "h": cameras.height,
        "fl_x": cameras.focal,
        "fl_y": cameras.focal,
        "cx": cameras.width / 2,
        "cy": cameras.height / 2,
        "ply_file_path": POINTS,
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(document, indent=1) + "\n")


def stored_photographs(folder: Path) -> NDArray[np.uint8]:
    """The photographs of a written folder, ``n h w 3``, as everyone else will see them."""
    return np.array([np.asarray(Image.open(path)) for path in sorted((folder / "images").iterdir())])


def _photographs(mi: Any, scene: Any, cameras: Orbit, samples: int) -> NDArray[np.uint8]:
    photos = []
    for index in range(len(cameras.poses)):
        start = time.monotonic()
        photos.append(photograph(mi, scene, cameras, index, samples=samples))
        print(f"view {index + 1} of {len(cameras.poses)}: {time.monotonic() - start:.1f} s", flush=True)
    return np.array(photos)


def write_points(path: Path, points: SparsePoints) -> None:
    """Write points with colours as PLY."""
    from plyfile import PlyData, PlyElement

    rows = np.zeros(
        len(points.positions), dtype=[(axis, "<f4") for axis in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")]
    )
    for i, axis in enumerate("xyz"):
        rows[axis] = points.positions[:, i]
    for i, channel in enumerate(("red", "green", "blue")):
        rows[channel] = points.colors[:, i]
    PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(str(path))


def main() -> int:
    """Run the command line; returns the exit status."""
    try:
        make(tyro.cli(Options, description=__doc__))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
