"""Where the gain of a run's head sits: does it sharpen, correct colours, or remember?

    python scripts/experiments/gain_map.py --load-config outputs/.../config.yml --json FILE.json --figures DIR
                                           [--before outputs/.../config.yml]

Compares the images of a finished run of ns-train before its head and after it, on held-out and on training views.
Before the head are the images of the first set of Gaussians of that run or, with --before, what another run shows in
the end, such as one of plain splatting that trained for as long. The difference of the two is called the residual:

- spectra of the error before and after, and the share of energy above half the Nyquist frequency;
- the gain by octave of frequency, what the slow part of the residual gains alone, and what its sharp parts gain;
- what a colour map gains, the head's own and the best there is, and what an unsharp filter fitted on the training
  views gains;
- what the residual of the nearest other view gains, and how the gain depends on the distance and the angle to the
  nearest training camera.

Prints a table and a verdict with the thresholds it rests on, writes FILE.json and the pictures spectra.png, parts.png,
distance.png and residuals.png. Gains are PSNR in dB; frequencies are in cycles per pixel.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict, dataclass, replace
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from gain_verdict import Verdict
    from gain_views import GainMap, Render

    from nerfstudio_plugin.runs import Run
    from qsplat.cameras import Camera


@dataclass(frozen=True)
class Options:
    """What to measure and where to put the answers."""

    load_config: Annotated[
        Path, tyro.conf.arg(help="config.yml of a run of ns-train; it runs code, so trust its author")
    ]
    json: Annotated[Path, tyro.conf.arg(help="JSON file to write", metavar="FILE.json")]
    figures: Annotated[Path, tyro.conf.arg(help="folder for the pictures", metavar="DIR")]
    before: Annotated[
        Path | None,
        tyro.conf.arg(
            help="config.yml of another run of the same capture, whose images count as those before the head"
        ),
    ] = None
    max_pictures: Annotated[int, tyro.conf.arg(help="held-out views to show the residual of; 0 for none")] = 3


def map_run(options: Options) -> tuple[GainMap, Verdict]:
    """Measure, write, and return what was found.

    Raises:
        ValueError: a run cannot be loaded or holds no view out, the two have other views, or the head changes nothing.
        BackendUnavailable: nothing on this machine can rasterize.
    """
    _check(options)
    warnings.filterwarnings("ignore", category=FutureWarning, module="nerfstudio")
    from gain_figures import write_figures
    from gain_verdict import verdict
    from gain_views import map_gain, seen

    from nerfstudio_plugin.runs import load_run
    from qsplat.io.atomic import written_whole

    run = load_run(options.load_config)
    if not run.held_out:
        raise ValueError(f"{run.facts.scene} holds nothing out: train with held-out views (every 8th by default)")
    other = None if options.before is None else load_run(options.before)
    render, background = _render(run, other), run.background
    found = map_gain(render, run.training_views(), run.views, background=background)
    said = verdict(found)
    chosen = range(0, len(run.views), max(1, -(-len(run.views) // max(1, options.max_pictures))))
    shown = [run.views[index] for index in chosen][: options.max_pictures]
    write_figures(options.figures, found, [(view.name, seen(render, view, background)) for view in shown])
    with written_whole(options.json) as temporary:
        temporary.write_text(
            json.dumps(as_json(run, other, found, said), indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
    return found, said


def _render(run: Run, other: Run | None) -> Render:
    """The images of ``run``, before its head those of ``other`` if there is one.

    Raises:
        ValueError: their views are not the same, or what they render over.
    """
    import torch

    if other is None:
        return run.render_measured
    for own, others in ((run.cameras(), other.cameras()), (run.training_cameras(), other.training_cameras())):
        if len(own) != len(others) or not all(map(_same_view, own, others)):
            raise ValueError(
                f"--before is a run of {other.facts.scene} whose views are not those of --load-config: train both on "
                "the same capture, with the same options of the data"
            )
    if not torch.equal(run.background.cpu(), other.background.cpu()):
        raise ValueError(
            f"--before renders over {other.background.tolist()} and --load-config over {run.background.tolist()}: "
            "train both with the same --pipeline.model.background-color"
        )
    return lambda camera: replace(run.render_measured(camera), rgb_base=other.render_measured(camera).rgb)


def _same_view(camera: Camera, other: Camera) -> bool:
    from qsplat.cameras import same_pose

    lenses = ((one.fx, one.fy, one.cx, one.cy, one.width, one.height) for one in (camera, other))
    return bool(same_pose(camera.cam_from_world[None], other.cam_from_world)) and all(map(isclose, *lenses))


def as_json(run: Run, other: Run | None, found: GainMap, said: Verdict) -> dict[str, Any]:
    """Everything that was found, as JSON can hold it."""
    from gain_parts import OCTAVES
    from gain_verdict import LEAST_GAIN, LEAST_KEPT, MAIN_SHARE

    return {
        **asdict(run.facts),
        "before": None if other is None else asdict(other.facts),
        "octaves_begin_at": OCTAVES,
        "held_out": found.held_out.as_json(),
        "train": found.train.as_json(),
        "unsharp": asdict(found.unsharp),
        "verdict": asdict(said),
        "thresholds": {"least_gain": LEAST_GAIN, "least_kept": LEAST_KEPT, "main_share": MAIN_SHARE},
    }


def print_map(found: GainMap) -> None:
    """A table of means, held-out views beside training views."""
    from gain_figures import PARTS
    from gain_parts import OCTAVE_NAMES
    from rich import box
    from rich.console import Console
    from rich.table import Table

    both = (found.held_out, found.train)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="means over views, dB", title_justify="left")
    table.add_column("")
    for label, views in zip(("held-out", "training"), both, strict=True):
        table.add_column(f"{label} ({len(views.views)})", justify="right")
    for part, label in {"psnr_base": "PSNR before", "psnr": "PSNR after"}.items():
        table.add_row(label, *(f"{views.mean(part):.2f}" for views in both))
    table.add_row("views that gain", *(str(views.better) for views in both))
    table.add_section()
    for octave, name in enumerate(OCTAVE_NAMES):
        table.add_row(f"gain, {name} cycles per pixel", *(f"{views.octaves[octave]:+.3f}" for views in both))
    table.add_section()
    for part, label in PARTS.items():
        table.add_row(f"gain of {label}", *(f"{views.mean(part):+.3f}" for views in both))
    table.add_section()
    for name in ("before", "after", "residual"):
        shares = (getattr(views.spectra, name).share_above() for views in both)
        label = "the residual" if name == "residual" else f"the error {name}"
        table.add_row(f"energy above half Nyquist, {label}", *(f"{share:.0%}" for share in shares))
    for label, name in (("distance", "by_distance"), ("angle", "by_angle")):
        ranked = (getattr(views, name) for views in both)
        table.add_row(
            f"rank correlation of gain and {label}", *("-" if each is None else f"{each.rho:+.2f}" for each in ranked)
        )
    console = Console()
    console.print(table)
    chosen = found.unsharp
    console.print(f"unsharp filter of the training views: sigma {chosen.sigma:g} px, amount {chosen.amount:+.3f}")


def _check(options: Options) -> None:
    if options.max_pictures < 0:
        raise ValueError(f"--max-pictures {options.max_pictures}: give 0 for none, or more")
    if options.json.is_dir():
        raise ValueError(f"--json {options.json} is a folder: give the file to write")
    if options.figures.exists() and not options.figures.is_dir():
        raise ValueError(f"--figures {options.figures} is a file: give a folder")


def main() -> int:
    """Parse, measure, print; a refusal is one sentence and status 1."""
    from qsplat.kernels import BackendUnavailable

    options = tyro.cli(Options, description=__doc__)
    try:
        found, said = map_run(options)
    except (ValueError, OSError, BackendUnavailable, MemoryError) as refusal:
        print(f"gain_map: {' '.join(str(refusal).split()) or 'out of memory'}", file=sys.stderr)
        return 1
    print_map(found)
    print(said.sentence)
    print(f"Written: {options.json} and {options.figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
