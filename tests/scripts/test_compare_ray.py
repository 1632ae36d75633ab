"""Runs spread over a local Ray cluster of two workers, one of which is killed in the middle of a run."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_compare import STILLLIFE, MadeUp, compare

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[scale]'")

SCENE = f"--scene {STILLLIFE} --methods splat,qsplat,qsplat-plus,qsplat-nerf --seeds 1 --budget 20 --max-side 48"


@dataclass(frozen=True)
class Slow:
    """As ``MadeUp``, but ``qsplat`` says which process it is in, and goes on when it may; ``splat`` is trained."""

    folder: Path

    def __call__(self, run):
        if run.method.name == "splat":
            from comparison.training import Trainer

            return Trainer()(run)
        if run.method.name == "qsplat":
            (self.folder / f"process {os.getpid()}").touch()
            while not (self.folder / "go on").exists():
                time.sleep(0.02)
        return MadeUp(self.folder, refused="qsplat-nerf")(run)


def rows(folder: Path) -> dict[str, dict]:
    """By method, without what is measured by a clock."""
    timed = ("train_seconds", "wall_seconds", "fps")
    found = json.loads((folder / "comparison.json").read_text())["rows"]
    for row in found:
        for name in timed:
            row.pop(name, None)
        row["curve"] = [(point["iterations"], point["psnr"]) for point in row.get("curve", ())]
    return {row["method"]: row for row in found}


@pytest.fixture
def light_ray(tmp_path, monkeypatch):
    """Ray's processes without a grammar of addresses, which takes each of them seconds to read where it is installed
    and which nothing here needs."""
    (tmp_path / "light").mkdir()
    (tmp_path / "light" / "rfc3987_syntax.py").write_text("raise ImportError('not needed')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "light"))
    monkeypatch.syspath_prepend(tmp_path / "light")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


@pytest.mark.usefixtures("light_ray")
def test_a_cluster_finds_what_one_machine_does_though_a_worker_is_killed(tmp_path, capsys):
    for where in ("here", "there"):
        (tmp_path / where).mkdir()
    (tmp_path / "here" / "go on").touch()
    local = compare.main(f"{SCENE} --output {tmp_path}/local".split(), train=Slow(tmp_path / "here"))
    killed = []

    def kill() -> None:
        while not (found := list((tmp_path / "there").glob("process *"))):
            time.sleep(0.02)
        killed.append(int(found[0].name.split()[1]))
        os.kill(killed[0], signal.SIGKILL)
        (tmp_path / "there" / "go on").touch()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    spread = compare.main(
        f"{SCENE} --output {tmp_path}/spread --ray local --workers 2".split(), train=Slow(tmp_path / "there")
    )
    said = capsys.readouterr()
    assert killed, said
    processes = {int(path.name.split()[1]) for path in (tmp_path / "there").glob("process *")}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert local == spread == 1
    assert rows(tmp_path / "spread") == rows(tmp_path / "local")
    assert rows(tmp_path / "spread")["qsplat-nerf"]["failed"] == "no photos: take some"
    assert rows(tmp_path / "spread")["qsplat"]["mean"]["psnr"] == 20.5
    assert "[4/4]" in said.out
