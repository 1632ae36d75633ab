"""The line that ns-train writes."""

from __future__ import annotations

import pytest

from nerfstudio_plugin.progress import ProgressWriter, ProgressWriterConfig, writer


def reported(step: int, **metrics: float) -> None:
    writer.EVENT_STORAGE.clear()
    writer.GLOBAL_BUFFER["step"] = step
    writer.EVENT_STORAGE.append({"name": "Train Metrics Dict", "event": metrics, "step": step})


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> ProgressWriter:
    monkeypatch.setitem(writer.GLOBAL_BUFFER, "max_iter", 1000)
    monkeypatch.setattr(writer, "EVENT_STORAGE", [])
    return ProgressWriterConfig().setup()


def test_progress_shows_iterations_rate_time_left_gaussians_psnr_and_phase(
    progress: ProgressWriter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    times = iter([100.0, 120.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    reported(0, psnr=10.0, gaussian_count=5000, phase=1.0)
    progress.write_stats_log(0)
    reported(800, psnr=27.125, gaussian_count=12345, phase=1.0)
    progress.write_stats_log(800)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1/1000  0 %  5,000 Gaussians  PSNR 10.00 dB  joint"
    assert lines[1] == "801/1000  80 %  40.0 it/s  0:04 left  12,345 Gaussians  PSNR 27.12 dB  joint"


def test_a_log_file_gets_a_line_every_ten_seconds_and_the_last_one(
    progress: ProgressWriter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    times = iter([100.0, 101.0, 109.0, 111.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    for step in range(3):
        reported(step, psnr=10.0, gaussian_count=1, phase=0.0)
        progress.write_stats_log(step)
    writer.EVENT_STORAGE.append({"name": writer.EventName.TOTAL_TRAIN_TIME.value, "event": 1.0, "step": 1000})
    progress.write_stats_log(2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1/1000", "3/1000"]
    assert "0:11 in all" in lines[1]


def test_the_rate_and_the_time_left_are_those_of_the_latest_iterations_in_the_phase(
    progress: ProgressWriter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def seconds_until(step: int) -> float:
        """100 iterations a second, then 10, then one in 2 seconds after the switch-on."""
        return 100 + min(step, 400) / 100 + min(max(0, step - 400), 200) / 10 + 2 * max(0, step - 600)

    times = map(seconds_until, range(621))
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    for step in range(621):
        reported(step, psnr=10.0, gaussian_count=1, phase=float(step >= 600))
        progress.write_stats_log(0)
    lines = capsys.readouterr().out.splitlines()
    before = [line for line in lines if "splatting" in line][-1]
    assert "10.0 it/s" in before
    assert "0.5 it/s" in lines[-1]
    done = int(lines[-1].split("/")[0])
    assert f"{2 * (1000 - done) // 60}:{2 * (1000 - done) % 60:02d} left" in lines[-1]


def test_a_resumed_run_counts_from_where_it_went_on(
    progress: ProgressWriter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    times = iter([100.0, 120.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    for step in (300, 500):
        reported(step, psnr=10.0, gaussian_count=1, phase=0.0)
        writer.EVENT_STORAGE.insert(0, {"name": "config", "event": {}, "step": 0})
        progress.write_stats_log(0)
    assert capsys.readouterr().out.splitlines()[1].startswith("501/1300  39 %  10.0 it/s  1:19 left")
