"""Progress of a run in one line: iterations, rate, time left, PSNR, and of splatting Gaussians and phase."""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, get_args

from nerfstudio.configs.base_config import LocalWriterConfig
from nerfstudio.utils import writer
from nerfstudio.utils.rich_utils import CONSOLE

from qsplat.training.schedule import Phase

PHASE = "phase"
"""Metric of the model: the number of its phase, counted from 0."""
RATED_STEPS, RATED_SECONDS = 50, 5.0
"""The rate is that of so many latest iterations, or of those in so many seconds if they are more, within one phase."""


@dataclass
class ProgressWriterConfig(LocalWriterConfig):
    """nerfstudio's options of what is written to the terminal, with our writer."""

    _target: type = field(default_factory=lambda: ProgressWriter)
    enable: bool = True


class ProgressWriter(writer.LocalWriter):
    """Rewrites one line in a terminal; writes a line every ten seconds where the output is a file or a pipe."""

    def __init__(self, config: LocalWriterConfig, banner_messages: list[str] | None = None) -> None:
        super().__init__(config, banner_messages)
        for message in banner_messages or []:
            print(message)
        self._live = sys.stdout.isatty()
        self._first: tuple[int, float] | None = None
        self._written = 0.0
        self._metrics: dict[str, Any] = {}
        self._recent: deque[tuple[int, float]] = deque()

    def write_stats_log(self, step: int) -> None:
        """Look at what the trainer reported, and write a line if it is time. ``step`` is only the first report's."""
        reported = {event["name"]: event["event"] for event in writer.EVENT_STORAGE}
        before, self._metrics = self._metrics, reported.get("Train Metrics Dict", self._metrics)
        latest, now = writer.GLOBAL_BUFFER["step"], time.monotonic()
        self._first = self._first or (latest, now)  # the first iteration is slower than the others, and not timed
        if before and self._metrics.get(PHASE) != before.get(PHASE):
            self._recent.clear()
        self._recent.append((latest, now))
        while len(self._recent) > 2 and self._spans(self._recent[1]):
            self._recent.popleft()
        finished = writer.EventName.TOTAL_TRAIN_TIME.value in reported
        if finished or now - self._written >= (0.2 if self._live else 10.0):
            self._written = now
            self._write(latest + 1, now, finished)

    def _spans(self, earlier: tuple[int, float]) -> bool:
        """Whether enough happened since ``earlier`` to tell the rate."""
        step, when = self._recent[-1]
        return step - earlier[0] >= RATED_STEPS and when - earlier[1] >= RATED_SECONDS

    def _write(self, done: int, now: float, finished: bool) -> None:
        first, began = self._first or (0, now)
        last = first + writer.GLOBAL_BUFFER["max_iter"]
        parts = [f"{done}/{last}", f"{100 * done / last:.0f} %"]
        since, then = (first, began) if finished else self._recent[0]
        if done - since > 1:
            rate = (done - since - 1) / max(now - then, 1e-6)
            parts += [f"{rate:.1f} it/s", f"{_clock((last - done) / rate)} left"]
        if finished:
            parts[3:] = [f"{_clock(now - began)} in all"]
        if "gaussian_count" in self._metrics:
            parts.append(f"{int(self._metrics['gaussian_count']):,} Gaussians")
        if self._metrics:
            parts.append(f"PSNR {float(self._metrics['psnr']):.2f} dB")
        if PHASE in self._metrics:
            parts.append(get_args(Phase)[int(self._metrics[PHASE])])
        line = "  ".join(parts)
        print(f"\r\x1b[K{line}" if self._live else line, end="\n" if finished or not self._live else "", flush=True)


def say_where_it_goes_on(step: int, iterations: int) -> None:
    """Tell of a resumed run where it is, after ``step`` of one of ``iterations``."""
    left = iterations - step - 1
    remedy = f": --max-num-iterations {left} ends where that would have" if left > 0 else ", which is at its end"
    CONSOLE.print(f"Going on after {step + 1} iterations, by the schedule of the run that made them{remedy}")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
