"""What a head costs when an image is shown: Gaussians, warped photos and network, in milliseconds.

    python scripts/bench/heads.py [--gaussians N] [--photos N] [--repeats N] [--sizes WxH ...] [--json FILE]

Random Gaussians in front of cameras on a short line, whose images stand for photos. No gradients, all threads. `one
set` is what plain splatting takes; `queries` choose and warp the photos that `qsplat-plus` reads, and `weights` those
by which it weighs its two sets. `warp` is the compiled kernel alone on the photos that are chosen, `portable warp`
the same in PyTorch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from layer import random_layer
from measuring import Options, Times, machine, milliseconds, run, show, size, take_turns, use_threads, write_json

SOURCES = 12
"""Photos to choose from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the JSON file if one is named."""
    options = Options(__doc__)
    options.add_count("--gaussians", default=30_000, help="in each set")
    options.add_count("--photos", default=8, help="that are warped into the view")
    options.add_count("--repeats", default=10, help="turns that count")
    options.add_argument("--sizes", type=size, nargs="+", default=[(400, 300), (1920, 1080)], metavar="WxH")
    given = options.parse_args(arguments)
    use_threads(None)
    return run(lambda: measure(given))


def measure(given: argparse.Namespace) -> None:
    """Time every size."""
    import torch

    rows = []
    with torch.no_grad():
        for width, height in given.sizes:
            measured = take_turns([case(given, width, height)], given.repeats)
            rows.append(
                {
                    "width": width,
                    "height": height,
                    "gaussians": given.gaussians,
                    "photos": given.photos,
                    **measured.medians[0],
                    "sgemm_gflops": measured.sgemm_gflops,
                    "threads": torch.get_num_threads(),
                }
            )
    show("Milliseconds per image", rows)
    if given.json is not None:
        write_json(given.json, {"machine": machine(), "rows": rows})


def case(given: argparse.Namespace, width: int, height: int) -> Callable[[], Times]:
    """One image, part by part."""
    import torch

    from qsplat.qnn import QNN, image_residual
    from qsplat.qnn.photo_head import PhotoHead
    from qsplat.qnn.photos import PhotoConfig, PhotoQueries, Source
    from qsplat.qnn.queries import part_queries, pixel_queries
    from qsplat.qnn.warp import Photo, Trust, portable_warp, warp
    from qsplat.render import rasterize
    from qsplat.training.photo_head import ShownView
    from qsplat.training.set_weights import SetView, SetWeights

    splats, camera = random_layer(given.gaussians, width, height)
    sources, views = [], []
    for index in range(SOURCES):
        pose = torch.eye(4)
        pose[0, 3] = 0.03 * (index - SOURCES / 2)
        beside = replace(camera, cam_from_world=pose)
        seen = rasterize(splats, beside)
        assert seen.depth is not None
        sources.append(Source(beside, 0.02 * seen.color, seen.depth, seen.alpha))
        views.append(ShownView(beside, seen.color, None, seen.color, seen.depth, seen.alpha))
    photos = PhotoQueries(sources, PhotoConfig(count=given.photos))
    head, beliefs = (network.eval().requires_grad_(False) for network in (QNN(), PhotoHead()))
    shown = rasterize(splats, camera)
    assert shown.depth is not None
    image, depth = shown.color, shown.depth
    weights, sets = SetWeights(views, photos.config), [SetView(image, depth, shown.alpha)] * 2
    coordinates, told = pixel_queries(camera), photos(camera, depth)
    chosen, shares = photos.chosen(camera)
    warped = [
        Photo(source.camera, torch.cat([source.residual, source.depth[..., None]], dim=-1).half())
        for source in (sources[index] for index in chosen.tolist())
    ]
    asked = {"photos": warped, "shares": shares, "trust": Trust(photos.config.tolerance, 0.1)}

    def times() -> Times:
        parts = {
            "one_set": lambda: rasterize(splats, camera),
            "qnn": lambda: image_residual(head, image, coordinates),
            "weights": lambda: weights.without(None)(camera, sets),
            "queries": lambda: part_queries(photos.without(None), camera, depth)(camera.view),
            "warp": lambda: warp(camera, depth, **asked),
            "portable_warp": lambda: portable_warp(camera, depth, **asked),
            "photo_head": lambda: image_residual(beliefs, image, told),
        }
        found = {name: milliseconds(part) for name, part in parts.items()}
        both = {"qsplat": found["one_set"] + found["qnn"]}
        both["qsplat_plus"] = 2 * found["one_set"] + found["weights"] + found["queries"] + found["photo_head"]
        return {**found, **both}

    return times


if __name__ == "__main__":
    sys.exit(main())
