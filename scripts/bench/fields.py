"""How fast our radiance fields are beside nerfstudio's vanilla-nerf on the same rays, and how well they learn.

    python scripts/bench/fields.py DIR [--models NAME ...] [--methods NAME ...] [--max-side N] [--rays N] [--repeats N]
                                   [--threads N] [--json FILE]
    python scripts/bench/fields.py DIR --learn [--iterations N] [--models NAME ...] [--rays N] [--pixels N] ...

DIR is a capture whose photos have alpha, in blender's format: vanilla-nerf looks between 2 and 6 units from a camera,
and gets rays in the capture's own units. Without ``--learn``, the loss of the same random rays and its gradients with
respect to all parameters are timed in turns: vanilla-nerf, our methods (default qsplat-nerf) in their ``original`` and
their ``small`` preset as they begin, and ``small`` after 200 iterations, when its grid knows what is empty; that also
in ``bfloat16`` and in ``float32``. With ``--learn``, each of the models is trained with the same rays for the same
number of iterations, vanilla-nerf by the optimiser of its method; printed is the PSNR of all over the same random
pixels of the held-out views. LPIPS, which vanilla-nerf builds and no training uses, is left out, because its weights
may not be on the machine.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from unittest.mock import patch

from measuring import (
    Options,
    Times,
    forward_and_backward,
    machine,
    run,
    show,
    take_turns,
    use_threads,
    write_json,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import Optimizer

    from qsplat.fields.rays import Rays
    from qsplat.io.scene import Scene
    from qsplat.precision import Precision
    from qsplat.training.field_presets import FieldMethod, FieldSize

ARITHMETIC: Mapping[str, Precision] = {"bfloat16": "bf16", "float32": "fp32"}
MODELS = ("vanilla", "original", "small", *ARITHMETIC)
"""The last ones are ``small`` that computes in them, whatever the processor is faster with."""
METHODS = ("nerf", "siren", "fourier")
WARM, WARM_RAYS = 200, 1024
AT_ONCE = 256
"""Rays at once where no gradient is needed."""


class Trained(Protocol):
    """A model as the benchmark sees it."""

    parameters: list[Parameter]
    optimizer: Optimizer

    def loss(self, rays: Rays, photo: Tensor) -> Tensor:
        """What training makes smaller."""
        ...

    def colors(self, rays: Rays) -> Tensor:
        """What rays see, [r, 3]."""
        ...

    def before_step(self, step: int) -> None:
        """The learning rate."""
        ...

    def after_step(self, step: int) -> None:
        """What is done when the parameters have moved."""
        ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the JSON file if one is named."""
    options = Options(__doc__)
    options.add_argument("scene", type=Path, metavar="DIR")
    options.add_count("--max-side", default=100, help="longer side of the photos in pixels")
    options.add_count("--rays", default=128, help="rays of a step")
    options.add_count("--repeats", default=5, help="repeats of every case")
    options.add_count("--threads", default=None, help="threads, torch's own number when not given")
    options.add_argument("--learn", action="store_true", help="train, and measure held-out pixels, instead of timing")
    options.add_count("--iterations", default=300, help="of each training")
    options.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="what is measured (default all)")
    options.add_argument("--methods", nargs="+", choices=METHODS, default=["nerf"], help="of ours (default nerf)")
    options.add_count("--pixels", default=4096, help="held-out pixels")
    options.add_count("--seed", default=1, help="of everything random")
    given = options.parse_args(arguments)

    def bench() -> None:
        threads = use_threads(given.threads)
        from qsplat.io.transforms import load_scene
        from qsplat.training.memory import keep_freed_memory

        keep_freed_memory()
        scene = load_scene(given.scene, max_side=given.max_side)
        if any(view.alpha is None for view in (*scene.train, *scene.test)) or not scene.test:
            raise ValueError(f"{given.scene}: give a capture with held-out views whose photos all have alpha")
        facts = {"machine": machine(), "threads": threads, "scene": scene.name, "max_side": given.max_side}
        if given.learn:
            rows = learning(scene, given)
            show(f"held-out pixels of {scene.name} after {given.iterations} iterations of {given.rays} rays", rows)
        else:
            rows = speed(scene, given)
            show(f"forward and backward, {given.rays} rays of {scene.name}", rows)
        if given.json:
            write_json(given.json, {**facts, "rays": given.rays, "learning" if given.learn else "speed": rows})

    return run(bench)


def speed(scene: Scene, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of every case."""
    import torch

    torch.manual_seed(given.seed)
    draw = pool(scene.train)
    models: dict[str, Trained] = {"nerfstudio vanilla-nerf": Vanilla(scene)} if "vanilla" in given.models else {}
    for method in given.methods:
        name = f"qsplat-{method}"
        if "original" in given.models:
            models[f"{name} original"] = Ours(scene, method, "original", WARM)
        computed = [kind for kind in ARITHMETIC if kind in given.models]
        if "small" not in given.models and not computed:
            continue
        warm = Ours(scene, method, "small", WARM)
        for step in range(WARM):
            take_step(warm, step, *draw(WARM_RAYS))
        if "small" in given.models:
            models[f"{name} small, at first"] = Ours(scene, method, "small", WARM)
            models[f"{name} small, after {WARM} iterations"] = warm
        for kind in computed:
            models[f"{name} small, the same in {kind}"] = warm.computing_in(kind)
    rays, photo = draw(given.rays)

    def case(model: Trained) -> Callable[[], Times]:
        return lambda: forward_and_backward(lambda: model.loss(rays, photo), model.parameters)

    found = take_turns([case(model) for model in models.values()], given.repeats)
    totals = [sum(times.values()) for times in found.medians]
    return [
        {
            "model": name,
            "parameters": sum(parameter.numel() for parameter in model.parameters),
            **{key.replace("_ms", "_us_per_ray"): round(1e3 * value / given.rays, 1) for key, value in times.items()},
            "us_per_ray": round(1e3 * total / given.rays, 1),
            "times_as_fast": round(totals[0] / total, 2),
            "sgemm_gflops": found.sgemm_gflops,
        }
        for (name, model), times, total in zip(models.items(), found.medians, totals, strict=True)
    ]


def learning(scene: Scene, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of every model: all see the same rays in the same order."""
    import torch

    from qsplat.metrics.psnr import psnr

    rows = []
    makers: dict[str, Callable[[], Trained]] = {}
    for name in given.models:
        for method in given.methods:
            if name == "vanilla":
                makers["nerfstudio vanilla-nerf"] = partial(Vanilla, scene)
            elif name in ARITHMETIC:
                small = partial(Ours, scene, method, "small", given.iterations)
                makers[f"qsplat-{method} small in {name}"] = lambda small=small, kind=name: small().computing_in(kind)
            else:
                makers[f"qsplat-{method} {name}"] = partial(Ours, scene, method, name, given.iterations)
    for name, make in makers.items():
        torch.manual_seed(given.seed)
        model = make()
        torch.manual_seed(given.seed + 1)
        batches, draw = torch.random.get_rng_state(), pool(scene.train)
        began = time.process_time()
        for step in range(given.iterations):
            with torch.random.fork_rng(devices=[]):
                torch.random.set_rng_state(batches)
                rays, photo = draw(given.rays)
                batches = torch.random.get_rng_state()
            take_step(model, step, rays, photo)
        seconds = time.process_time() - began
        torch.manual_seed(given.seed + 2)
        rays, photo = pool(scene.test)(given.pixels)
        with torch.no_grad():
            seen = [model.colors(rays[first : first + AT_ONCE]) for first in range(0, given.pixels, AT_ONCE)]
        rows.append(
            {
                "model": name,
                "iterations": given.iterations,
                "rays": given.rays,
                "psnr": round(psnr(torch.cat(seen)[None], photo[None]), 2),
                "processor_seconds": round(seconds, 1),
            }
        )
    return rows


def take_step(model: Trained, step: int, rays: Rays, photo: Tensor) -> None:
    """One iteration of training."""
    model.before_step(step)
    model.optimizer.zero_grad(set_to_none=True)
    model.loss(rays, photo).backward()
    model.optimizer.step()
    model.after_step(step)


def pool(views: Sequence[Any]) -> Callable[[int], tuple[Rays, Tensor]]:
    """Draws so many rays of the photos of ``views`` and their colours over white."""
    import torch

    from qsplat.training.rays import RayPool

    return RayPool.of(views, torch.ones(3), device="cpu").sample


class Ours:
    """A method of ours as ns-train trains it, in one of its sizes."""

    def __init__(self, scene: Scene, method: FieldMethod, size: FieldSize, iterations: int) -> None:
        import torch

        from qsplat.fields.model import FieldModel
        from qsplat.training.adam import Adam
        from qsplat.training.field_presets import field_preset
        from qsplat.training.fit_field import region_for

        self.config = field_preset(method, size, iterations=iterations)
        self.model = FieldModel(self.config.field, region_for(scene), torch.ones(3))
        self.parameters = list(self.model.parameters())
        self.optimizer: Optimizer = Adam(self.parameters, fused=True)

    def computing_in(self, kind: str) -> Ours:
        """A copy that computes in a ``kind`` of ``ARITHMETIC``."""
        twin = copy.deepcopy(self)
        twin.model.field.config = replace(self.config.field, precision=ARITHMETIC[kind])
        return twin

    def loss(self, rays: Rays, photo: Tensor) -> Tensor:
        """Of both passes, where there are two."""
        from qsplat.training.fit_field import field_loss

        return field_loss(self.model.march(rays, jitter=True), photo, self.model.background)

    def colors(self, rays: Rays) -> Tensor:
        """Those of the fine pass."""
        return self.model.march(rays, jitter=False).fine.over(self.model.background)

    def before_step(self, step: int) -> None:
        """The rate of the preset."""
        from qsplat.training.schedule import Schedule

        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate.at(step, Schedule(self.config.iterations))

    def after_step(self, step: int) -> None:
        """The grid, where there is one."""
        self.model.after_step(step)


class Vanilla:
    """nerfstudio's vanilla-nerf with the options and the optimiser of its method."""

    def __init__(self, scene: Scene) -> None:
        import torch
        from nerfstudio.configs.method_configs import all_methods
        from nerfstudio.data.scene_box import SceneBox

        config: Any = copy.deepcopy(all_methods["vanilla-nerf"])
        box = SceneBox(aabb=torch.tensor([[-1.5, -1.5, -1.5], [1.5, 1.5, 1.5]]))
        with patch("torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity", lambda **_: torch.nn.Identity()):
            self.model = config.pipeline.model.setup(scene_box=box, num_train_data=len(scene.train))
        self.parameters = self.model.get_param_groups()["fields"]
        self.optimizer: Optimizer = config.optimizers["fields"]["optimizer"].setup(params=self.parameters)
        assert config.optimizers["fields"]["scheduler"] is None
        self._original_from_world = torch.linalg.inv(scene.world_from_original).float()

    def loss(self, rays: Rays, photo: Tensor) -> Tensor:
        """Of both passes."""
        losses = self.model.train().get_loss_dict(self._outputs(rays), {"image": photo})
        return losses["rgb_loss_coarse"] + losses["rgb_loss_fine"]

    def colors(self, rays: Rays) -> Tensor:
        """Those of the fine pass."""
        self.model.eval()
        return self._outputs(rays)["rgb_fine"]

    def _outputs(self, rays: Rays) -> dict[str, Tensor]:
        import torch
        from nerfstudio.cameras.rays import RayBundle

        pose = self._original_from_world
        directions = torch.nn.functional.normalize(rays.directions @ pose[:3, :3].T, dim=-1)
        bundle = RayBundle(
            origins=rays.origins @ pose[:3, :3].T + pose[:3, 3],
            directions=directions,
            pixel_area=torch.ones(len(rays), 1),
        )
        return self.model(bundle)

    def before_step(self, step: int) -> None:
        """The rate is constant."""

    def after_step(self, step: int) -> None:
        """Nothing."""


if __name__ == "__main__":
    sys.exit(main())
