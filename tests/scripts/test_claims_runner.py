"""The runner of experiments, on made-up ones: what it prints, writes, refuses, and survives."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_startup import ASK_FOR_HELP

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "scripts" / "experiments"
DESCRIBED = '''"""A made-up experiment.

Claim: one is more than
    nothing.
Setting: as given.
Source: none.
Expectation: it holds.
"""
'''


@pytest.fixture(scope="module")
def scripts():
    """The scripts import each other from the folder that they lie in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXPERIMENTS)
        yield SimpleNamespace(
            run=importlib.import_module("run"),
            listing=importlib.import_module("claims.listing"),
            record=importlib.import_module("claims.record"),
        )


@pytest.fixture
def made_up(scripts, monkeypatch):
    """Three experiments in place of the real ones: one that holds, one that fails, one that lacks its data."""
    part = scripts.listing.Described("A made-up experiment", "a claim", "a setting", "a source", "an expectation")
    known = dict.fromkeys(("holds", "fails", "lacks"), part)
    monkeypatch.setattr(scripts.run, "described", lambda: known)

    def draw(figures, path):
        path.write_bytes(b"a picture")

    def measured(setting):
        return {"values": [1.5 + seed for seed in setting.each_seed()], "quick": setting.quick}

    def larger(figures):
        return [scripts.record.larger("more than 1", figures["values"], [1.0] * len(figures["values"]), unit="dB")]

    def lacking(figures):
        return [scripts.record.Verdict("a | claim", None, "nothing here")]

    def broken(setting):
        raise RuntimeError("the network\nis gone")

    for name, measure, judge in (("holds", measured, larger), ("fails", broken, larger), ("lacks", measured, lacking)):
        module = SimpleNamespace(measure=measure, judge=judge, draw=draw)
        monkeypatch.setitem(sys.modules, f"claims.{name}", module)
    return scripts.run


def test_figures_verdicts_and_a_picture_are_written_and_told(made_up, tmp_path, capsys):
    assert made_up.main(["holds", "--seeds", "3", "--output", str(tmp_path / "new")]) == 0
    shown = capsys.readouterr()
    assert "held: more than 1 [+1.50 ± 1.00 dB, 3 of 3 pairs]" in shown.out
    assert "over 3 seeds" in shown.out
    assert shown.err.splitlines() == [f"  seed {seed} of 3" for seed in (1, 2, 3)]
    written = json.loads((tmp_path / "new" / "holds.json").read_text())
    assert written["figures"] == {"values": [1.5, 2.5, 3.5], "quick": False}
    assert written["verdicts"] == [{"claim": "more than 1", "held": True, "by": "+1.50 ± 1.00 dB, 3 of 3 pairs"}]
    assert (written["name"], written["seeds"], written["quick"]) == ("holds", 3, False)
    assert written["minutes"] >= 0
    assert written["machine"]["processor"]
    assert (tmp_path / "new" / "holds.png").read_bytes() == b"a picture"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["holds.json", "holds.png"]


def test_five_seeds_are_usual_and_one_in_a_quick_run(made_up, tmp_path, capsys):
    for arguments, seeds in (([], 5), (["--quick"], 1)):
        assert made_up.main(["holds", *arguments, "--output", str(tmp_path)]) == 0
        assert json.loads((tmp_path / "holds.json").read_text())["seeds"] == seeds
    assert "a quick run that says nothing about the claim" in capsys.readouterr().out


def test_one_that_fails_does_not_lose_the_others(made_up, tmp_path, capsys):
    assert made_up.main(["--all", "--quick", "--output", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "failed (RuntimeError): the network is gone" in shown.err
    assert "1 of 3 experiments failed: fails" in shown.err
    assert "open: a | claim [nothing here]" in shown.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holds.json", "holds.png", "lacks.json", "lacks.png"]


def test_what_cannot_be_written_as_json_leaves_no_file(made_up, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["claims.holds"], "measure", lambda setting: {"values": [float("nan")]})
    assert made_up.main(["holds", "--quick", "--output", str(tmp_path)]) == 1
    assert not (tmp_path / "holds.json").exists()


def test_the_page_has_a_row_for_each_claim_and_one_for_what_was_not_run(made_up, tmp_path):
    assert made_up.main(["holds", "lacks", "--quick", "--output", str(tmp_path / "experiments")]) == 0
    page = tmp_path / "experiments.md"
    assert made_up.main(["--page", str(page), "--output", str(tmp_path / "experiments")]) == 0
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 3
    (held,) = [row for row in rows if row.startswith("| [holds](#holds) | more than 1 |")]
    assert "| +0.50 ± ? dB, 1 of 1 pairs: within chance | open | `run.py holds --seeds 1 --quick` | 1 |" in held
    (lacking,) = [row for row in rows if "[lacks]" in row]
    assert "a / claim | nothing here | open" in lacking
    assert "Of 2 claims 0 held, 0 did not, and 2 are open." in page.read_text()
    assert "| fails | | not run | | | | |" in rows
    assert "![A made-up experiment](experiments/holds.png)" in page.read_text()
    assert "experiments/fails.png" not in page.read_text()


def test_command_seeds_and_minutes_stand_in_the_first_row_of_an_experiment(made_up, tmp_path, monkeypatch, scripts):
    judged = [scripts.record.Verdict(f"claim {number}", number == 1, "so") for number in (1, 2)]
    monkeypatch.setattr(sys.modules["claims.holds"], "judge", lambda figures: judged)
    page = tmp_path / "page.md"
    assert made_up.main(["holds", "--seeds", "2", "--output", str(tmp_path), "--page", str(page)]) == 0
    first, second = (line for line in page.read_text().splitlines() if line.startswith("| [holds]"))
    assert first.startswith("| [holds](#holds) | claim 1 | so | yes | `run.py holds --seeds 2` | 2 | ")
    assert second == "| [holds](#holds) | claim 2 | so | **no** |  |  |  |"
    assert "Of 2 claims 1 held, 1 did not, and 0 are open." in page.read_text()


def test_the_page_in_the_documentation_says_what_its_results_say(scripts):
    folder = ROOT / "docs" / "experiments"
    written = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    assert written == scripts.listing.page(folder, scripts.listing.described())


def test_a_page_of_broken_files_is_refused(made_up, tmp_path, capsys):
    for text in ("no JSON", "[]"):
        (tmp_path / "holds.json").write_text(text)
        assert made_up.main(["--page", str(tmp_path / "page.md"), "--output", str(tmp_path)]) == 1
        assert "measure again" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["regresion_1d"], "there is no experiment 'regresion_1d': the nearest name is regression_1d"),
        ([], "nothing to do"),
        (["ntk", "--seeds", "0"], "'0': give a whole number of at least 1"),
        (["ntk", "--output", __file__], "is a file: give a folder"),
        (["--all", "ntk"], "--all runs every experiment: leave out ntk"),
        (["ntk", "--list"], "--list shows every experiment: leave out ntk"),
        (["--page", f"{__file__}/page.md"], "page.md cannot be written: give a path in a folder"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(scripts, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as exit:
        scripts.run.main(arguments)
    assert exit.value.code == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize("folder", ["a file/out", "/proc"])
def test_a_folder_that_cannot_be_written_is_refused_before_measuring(made_up, tmp_path, monkeypatch, capsys, folder):
    (tmp_path / "a file").write_text("")
    measured = []
    monkeypatch.setattr(sys.modules["claims.holds"], "measure", measured.append)
    assert made_up.main(["holds", "--output", str(tmp_path / folder)]) == 1
    shown = capsys.readouterr()
    assert f"{folder} cannot be written (" in shown.err
    assert len(shown.err.splitlines()) == 1
    assert measured == []


def test_a_data_folder_that_is_none_is_refused(made_up, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QSPLAT_DATA", str(tmp_path / "nowhere"))
    assert made_up.main(["holds", "--quick", "--output", str(tmp_path)]) == 1
    assert "nowhere is no folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_and_list_come_without_torch():
    for arguments, shown in (("--help", "usage: run.py"), ("--list", "Claim: ")):
        command = [sys.executable, "-c", ASK_FOR_HELP.replace("--help", arguments), str(EXPERIMENTS / "run.py")]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert answer.returncode == 0, answer.stderr
        assert shown in answer.stdout
        loaded = json.loads(answer.stderr.splitlines()[-1])
        assert not {"torch", "nerfstudio", "scipy", "matplotlib", "numpy"} & set(loaded)


def test_docstrings_are_taken_apart(scripts, tmp_path):
    (tmp_path / "made_up.py").write_text(DESCRIBED + "def measure(setting): ...\n")
    (tmp_path / "shared.py").write_text('"""Something shared."""\n')
    found = scripts.listing.described(tmp_path)
    assert list(found) == ["made_up"]
    assert found["made_up"].title == "A made-up experiment"
    assert found["made_up"].claim == "one is more than nothing."
    (tmp_path / "made_up.py").write_text(DESCRIBED.replace("Source: none.\n", "") + "def measure(setting): ...\n")
    with pytest.raises(ValueError, match="made_up lacks source"):
        scripts.listing.described(tmp_path)


def test_a_difference_is_judged_by_its_mean_over_pairs(scripts):
    clear = scripts.record.larger("a claim", [3.0, 2.0, 2.5], [1.0, 0.5, 0.5], unit="dB")
    assert (clear.held, clear.by) == (True, "+1.83 ± 0.29 dB, 3 of 3 pairs")
    against = scripts.record.larger("a claim", [1.0, 0.5, 0.5], [3.0, 2.0, 2.5], unit="dB")
    assert (against.held, against.by) == (False, "-1.83 ± 0.29 dB, 0 of 3 pairs")
    unclear = scripts.record.larger("a claim", [3.0, 1.0, 2.0], [1.0, 2.0, 0.5], unit="dB")
    assert (unclear.held, unclear.by) == (None, "+0.83 ± 1.61 dB, 2 of 3 pairs: within chance")
    assert scripts.record.larger("a claim", [2.0], [1.0], unit="dB").held is None
    assert scripts.record.larger("a claim", [1.0, 2.0], [1.0, 2.0], unit="dB").held is False


def test_figures_are_judged_and_drawn_again_without_measuring(made_up, tmp_path, monkeypatch, capsys):
    assert made_up.main(["holds", "--seeds", "3", "--output", str(tmp_path)]) == 0
    before = json.loads((tmp_path / "holds.json").read_text())
    monkeypatch.setattr(sys.modules["claims.holds"], "measure", None)
    monkeypatch.setattr(sys.modules["claims.holds"], "judge", sys.modules["claims.lacks"].judge)
    (tmp_path / "holds.png").unlink()
    assert made_up.main(["holds", "--again", "--output", str(tmp_path)]) == 0
    after = json.loads((tmp_path / "holds.json").read_text())
    assert after["verdicts"] == [{"claim": "a | claim", "held": None, "by": "nothing here"}]
    assert {**after, "verdicts": before["verdicts"]} == before
    assert (tmp_path / "holds.png").exists()
    assert made_up.main(["lacks", "--again", "--output", str(tmp_path)]) == 1
    assert "lacks.json does not exist: measure first" in capsys.readouterr().err
