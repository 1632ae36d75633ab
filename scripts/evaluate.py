"""Measure a trained run on its held-out views, and show them.

    python scripts/evaluate.py --load-config outputs/.../config.yml --output metrics.json

Writes FILE.json with means, every image and remarks, prints them as a table, and saves pictures (photo, images without
and with the QNN, residual, errors; of a radiance field photo, image and error) into a folder beside the file. PSNR and
PSNR_edge are in dB; LPIPS (vgg, and alex as lpips_alex) is null where its weights are not on this machine.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from pictures import Panels
    from torch import Tensor

    from nerfstudio_plugin.runs import Run
    from qsplat.metrics.report import ImageScores, RenderedView, Report, Scores


@dataclass(frozen=True)
class Options:
    """What to measure and where to put the answers."""

    load_config: Annotated[
        Path, tyro.conf.arg(help="config.yml of a run of ns-train; it runs code, so trust its author")
    ]
    output: Annotated[Path, tyro.conf.arg(help="JSON file to write", metavar="FILE.json")]
    pictures: Annotated[Path | None, tyro.conf.arg(help="folder for pictures; FILE-pictures when not given")] = None
    max_pictures: Annotated[int, tyro.conf.arg(help="views to make pictures of, evenly chosen; 0 for none")] = 8
    lpips_weights: Annotated[Path | None, tyro.conf.arg(help="folder that holds the weights of LPIPS' backbones")] = (
        None
    )


def evaluate_run(
    options: Options, *, run: Run | None = None, on_panels: Callable[[str, Panels], None] | None = None
) -> Report:
    """Evaluate, write, and return the report.

    Args:
        options: what the command line says.
        run: the run of ``options.load_config``, where it is loaded already.
        on_panels: is given the name and the panels of every view, whether a picture is made of it or not.

    Raises:
        ValueError: the run cannot be loaded or has nothing to evaluate; the sentence says which.
        BackendUnavailable: nothing on this machine can rasterize.
    """
    _check(options)
    warnings.filterwarnings("ignore", category=FutureWarning, module="nerfstudio")
    from nerfstudio_plugin.runs import load_run
    from qsplat.io.atomic import written_whole
    from qsplat.metrics.lpips import load_lpips
    from qsplat.metrics.report import evaluate

    run = run or load_run(options.load_config)
    folder = options.pictures or options.output.with_name(f"{options.output.stem}-pictures")
    report = evaluate(
        run.render_measured,
        run.views,
        run.facts,
        background=run.background,
        lpips={net: load_lpips(net, folder=options.lpips_weights) for net in ("vgg", "alex")},
        on_view=_shower(folder, _evenly([view.name for view in run.views], options.max_pictures), on_panels),
    )
    report = replace(report, notes=(*_remarks(run), *report.notes))
    with written_whole(options.output) as temporary:
        temporary.write_text(json.dumps(report.as_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return report


def print_report(report: Report) -> None:
    """A table of every image and the means, base image before image, and the remarks."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    facts, console = report.facts, Console()
    compared = ", without > with QNN" if report.base != report.mean else ""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"{facts.scene}, {facts.method}{compared}")
    table.add_column("view", overflow="fold")
    for label in ("PSNR", "PSNR_edge", "SSIM", "LPIPS"):
        table.add_column(label, justify="right", no_wrap=True)
    for image in report.per_image:
        table.add_row(Path(image.name).name, *_cells(image.base, image.scores))
    table.add_section()
    table.add_row("mean", *_cells(report.base, report.mean))
    console.print(table)
    seconds = "?" if facts.train_seconds is None else f"{facts.train_seconds:.0f} s"
    count = "" if facts.num_gaussians is None else f" {facts.num_gaussians:,} Gaussians,"
    console.print(f"{facts.iterations} iterations in {seconds},{count} {facts.device}", highlight=False)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def _check(options: Options) -> None:
    if options.max_pictures < 0:
        raise ValueError(f"--max-pictures {options.max_pictures}: give 0 for none, or more")
    if options.output.is_dir():
        raise ValueError(f"--output {options.output} is a folder: give the JSON file to write")
    if options.lpips_weights is not None and not options.lpips_weights.is_dir():
        raise ValueError(f"--lpips-weights {options.lpips_weights} is no folder: give the one with the .pth files")


def _remarks(run: Run) -> list[str]:
    nothing_held_out = "the capture holds nothing out: these are views of the training"
    return [*run.remarks, *([] if run.held_out else [nothing_held_out])]


def _shower(
    folder: Path, chosen: set[str], on_panels: Callable[[str, Panels], None] | None
) -> Callable[[ImageScores, Tensor, RenderedView], None]:
    """What makes the panels of a view, gives them away, and saves those of the chosen views into ``folder``."""
    from pictures import beside_photo, panels, side_by_side
    from PIL import Image

    from qsplat.io.atomic import written_whole

    def show(image: ImageScores, photo: Tensor, shown: RenderedView) -> None:
        if image.name not in chosen and on_panels is None:
            return
        pictured = panels(photo, shown.rgb_base, shown.rgb)
        if on_panels is not None:
            on_panels(image.name, pictured)
        if image.name not in chosen:
            return
        if shown.rgb_base is shown.rgb:
            sheet = beside_photo(pictured, f"{image.name}: PSNR {image.scores.psnr:.2f} dB")
        else:
            title = f"{image.name}: PSNR {image.base.psnr:.2f} dB without, {image.scores.psnr:.2f} dB with QNN"
            sheet = side_by_side(pictured, title)
        name = Path(image.name).with_suffix("").as_posix().replace("/", "_")
        with written_whole(folder / f"{name}.png") as temporary:
            Image.fromarray(sheet).save(temporary, format="PNG")

    return show


def _evenly(names: list[str], count: int) -> set[str]:
    """At most ``count`` of the names, spread over them."""
    if count == 0:
        return set()
    return {names[index * len(names) // min(count, len(names))] for index in range(min(count, len(names)))}


def _cells(base: Scores, scores: Scores) -> list[str]:
    pairs = [
        (base.psnr, scores.psnr, 2),
        (base.psnr_edge, scores.psnr_edge, 2),
        (base.ssim, scores.ssim, 4),
        (base.lpips, scores.lpips, 4),
    ]
    if base == scores:
        return ["-" if b is None else f"{b:.{digits}f}" for _, b, digits in pairs]
    return ["-" if a is None or b is None else f"{a:.{digits}f} > {b:.{digits}f}" for a, b, digits in pairs]


def _limit(error: Exception) -> str | None:
    """The sentence for what this machine cannot do; None for an error of the program."""
    from torch import OutOfMemoryError

    from qsplat.render import BackendUnavailable

    reason = " ".join(str(error).split())
    if isinstance(error, (MemoryError, OutOfMemoryError)):
        return f"out of memory ({reason or 'no more is known'}): close other programs, or use a larger machine"
    return reason if isinstance(error, BackendUnavailable) else None


def main() -> int:
    """Parse, evaluate, print; a refusal is one sentence and status 1."""
    options = tyro.cli(Options, description=__doc__)
    try:
        report = evaluate_run(options)
    except (ValueError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        sentence = _limit(error)
        if sentence is None:
            raise
        print(f"evaluate: {sentence}", file=sys.stderr)
        return 1
    print_report(report)
    print(f"Written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
