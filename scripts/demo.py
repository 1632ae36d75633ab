"""Train the bundled scene, measure it and show it: ``make demo``, or

    python scripts/demo.py

Trains with ``ns-train qsplat``, on the GPU when there is one, measures the held-out views as ``scripts/evaluate.py``
does, and writes ``outputs/demo``: ``index.html`` (one page that asks nothing of the net), ``metrics.json``,
``pictures/``, and the run itself under ``run/``, ready for ns-viewer, ns-render and ns-export. An earlier demo there is
replaced.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from qsplat.metrics.report import Report as Measured

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "scenes" / "stilllife"
PROGRESS = re.compile(r"\d+/\d+  ")
LOG, PAGE = "train.log", "index.html"
ORBIT_FRAMES = 36


@dataclass(frozen=True)
class Options:
    """Where to, and for how long."""

    output: Annotated[Path, tyro.conf.arg(help="folder to write")] = ROOT / "outputs" / "demo"
    iterations: Annotated[int | None, tyro.conf.arg(help="length of the run; the scene's own when not given")] = None

    def __post_init__(self) -> None:
        if self.iterations is not None and self.iterations < 1:
            raise ValueError(f"--iterations {self.iterations}: a run has at least 1")


def demo(options: Options) -> Path:
    """Train, measure and write the page; returns its path.

    Raises:
        ValueError: a step failed; the sentence says which, and where to read more.
    """
    output = options.output.resolve()
    clear(output)
    settings = demo_settings(DATA.with_suffix(".toml"))
    command = training_command(output, options.iterations or settings["iterations"], settings["max_gaussians"])
    print(f"Training (everything that it says: {shown(output / LOG)})\n  {shlex.join(command)}", flush=True)
    train(command, output / LOG)
    config = output / "run" / "qsplat" / "latest" / "config.yml"
    print("Measuring the held-out views", flush=True)
    show(config, command, output)
    return output / PAGE


def clear(output: Path) -> None:
    """Make ``output`` an empty folder, if it is new or an earlier demo.

    Raises:
        ValueError: it holds something else.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file: give a folder")
    if output.is_dir() and any(output.iterdir()):
        if not (output / LOG).is_file():
            raise ValueError(f"--output {output} holds something that is no earlier demo: give another folder")
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)


def demo_settings(description: Path) -> Mapping[str, Any]:
    """The table ``demo`` of a scene's description."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    return toml.loads(description.read_text(encoding="utf-8"))["demo"]


def training_command(output: Path, iterations: int, max_gaussians: int) -> list[str]:
    """The call of ns-train, to be run in the project's folder. The network sees whole images, as on a GPU: in so short
    a run it would learn too little from crops."""
    return [
        *("ns-train", "qsplat", "--data", str(shown(DATA)), "--output-dir", str(shown(output))),
        *("--experiment-name", "run", "--timestamp", "latest", "--vis", "tensorboard"),
        *("--max-num-iterations", str(iterations)),
        *("--pipeline.model.densification.max-gaussians", str(max_gaussians)),
        *("--pipeline.model.qnn.crop-share", "1"),
    ]


def train(command: Sequence[str], log: Path) -> None:
    """Run ``command`` from this Python's environment, its progress on the terminal, everything it says in ``log``.

    Raises:
        ValueError: it cannot be run, or failed.
    """
    program = Path(sys.executable).with_name(command[0])
    if not program.is_file():
        raise ValueError(f"{program} does not exist: install qsplat with its dependencies (make install)")
    said = ""
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [str(program), *command[1:]],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            said = line.strip() or said
            if PROGRESS.match(line):
                print(f"  {line.rstrip()}", flush=True)
    if process.wait() != 0:
        raise ValueError(f"the training failed with status {process.returncode}: {said} (all of it in {log})")


def show(config: Path, command: Sequence[str], output: Path) -> None:
    """Measure the run's held-out views and write ``metrics.json``, ``pictures`` and ``index.html``."""
    import evaluate
    from pictures import Panels, picture
    from report import Report, page
    from turntable import turntable

    from nerfstudio_plugin.runs import load_run
    from qsplat.io.atomic import written_whole

    run, metrics = load_run(config), output / "metrics.json"
    comparisons: dict[str, Panels] = {}
    options = evaluate.Options(load_config=config, output=metrics, pictures=output / "pictures")
    measured = evaluate.evaluate_run(options, run=run, on_panels=comparisons.__setitem__)
    evaluate.print_report(measured)
    print("Making the page", flush=True)
    ring = turntable([view.camera for view in run.views], ORBIT_FRAMES)
    evaluation = f"python scripts/evaluate.py --load-config {shown(config)} --output {shown(metrics)}"
    report = Report(
        title="A still life",
        summary=summary(measured),
        orbit=[picture(run.render(camera).rgb) for camera in ring],
        comparisons=comparisons,
        metrics=measured.as_json(),
        commands=[shlex.join(command), evaluation, f"ns-viewer --load-config {shown(config)}"],
    )
    with written_whole(output / PAGE) as temporary:
        temporary.write_text(page(report), encoding="utf-8")


def summary(measured: Measured) -> str:
    """What was done, in two sentences."""
    facts = measured.facts
    seconds = facts.train_seconds or 0.0
    return (
        f"{facts.num_gaussians:,} Gaussians, trained on photographs taken around a table for {facts.iterations:,} "
        f"iterations in {seconds // 60:.0f} min {seconds % 60:.0f} s ({facts.device}). In the last quarter of the run "
        "a small network (QNN), which adds a residual to their picture, was trained with them."
    )


def shown(path: Path) -> Path:
    """``path`` as seen from the project's folder, where it lies inside."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def main() -> int:
    """Run the demo; a failure is one sentence and status 1. The last line says where the page is."""
    began = time.monotonic()
    # Threads that spin while they wait slow the joint phase on a busy machine. Torch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        path = demo(tyro.cli(Options, description=__doc__))
    except (ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped", file=sys.stderr)
        return 130
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    print(f"Done in {minutes}:{seconds:02d}. Open {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
