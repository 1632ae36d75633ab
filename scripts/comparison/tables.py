"""Rows of runs as means over seeds, and as tables of Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from comparison.methods import METHODS

SCORES = ("psnr", "ssim", "psnr_edge", "lpips", "lpips_alex")
RESULTS, END = "<!-- results -->\n", "<!-- end -->\n"
FIGURES = (
    "method",
    "scene",
    "seed",
    "mean",
    "train_seconds",
    "iterations",
    "parameters",
    "bytes",
    "fps",
    "code",
    "failed",
)
"""What the data beside a page have of each row."""
COSTS = ("train_seconds", "wall_seconds", "iterations", "parameters", "gaussians", "bytes", "fps")


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each scene and method the means over seeds, with the standard deviation of the scores (None for one seed).

    Means are over the runs that have a value. The octaves go from the lowest frequencies to the highest.
    """
    found = []
    for scene, method in dict.fromkeys((row["scene"], row["method"]) for row in rows):
        of_both = [row for row in rows if (row["scene"], row["method"]) == (scene, method)]
        done = [row for row in of_both if "failed" not in row]
        octaves = zip(*(row["mean"]["band_psnr"] for row in done), strict=True)
        found.append(
            {
                "scene": scene,
                "method": method,
                "seeds": len(done),
                "failed": [row["failed"] for row in of_both if "failed" in row],
                **{score: _spread(row["mean"].get(score) for row in done) for score in SCORES},
                **{cost: _mean(row[cost] for row in done) for cost in COSTS},
                "band_psnr": [statistics.mean(values) for values in octaves],
            }
        )
    return found


def verdicts(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each scene: which method leads by mean PSNR, and by how much."""
    return [_verdict(scene, ranked) for scene, ranked in _ranked(found).items()]


def tables(content: Mapping[str, Any]) -> str:
    """The tables of a comparison, the content of comparison.json."""
    settings, found, rows = content["settings"], content["summary"], content["rows"]
    machine = content["machine"]
    lines = [
        "# Comparison",
        "",
        f"Budget of each training: {settings['budget']}. Photos of at most {settings['max_side']} pixels a side, at "
        f"most {settings['gaussians']:,} Gaussians (in each set). Mean ± standard deviation over seeds, on held-out "
        "views. "
        "Time is processor time of the training, on one thread; so are the views a second. "
        f"{machine['processor']}, torch {machine['torch']}.",
        "",
        "```",
        settings["command"],
        "```",
        "",
        *_results(found, heading="##"),
    ]
    failures = [row for row in rows if "failed" in row]
    if failures:
        lines += ["", "## Failed", ""]
        lines += [f"- {row['scene']}, {row['method']}, seed {row['seed']}: {row['failed']}" for row in failures]
    said = remarks(rows)
    if said:
        lines += ["", "## Notes", "", *(f"- {remark}" for remark in said)]
    return "\n".join(lines) + "\n"


def filled(page: str, found: Sequence[Mapping[str, Any]]) -> str:
    """A page of Markdown with a summary between its lines ``<!-- results -->`` and ``<!-- end -->``.

    Raises:
        ValueError: it has no such lines.
    """
    before, begin, rest = page.partition(RESULTS)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"it has no lines {RESULTS.strip()} and {END.strip()} to write between")
    return before + begin + "\n".join(_results(found, heading="###")) + "\n" + end + after


def data(facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """JSON of ``facts`` and of the ``FIGURES`` of the ``rows``, each row on a line."""
    few = [{name: row[name] for name in FIGURES if name in row} for row in rows]
    head = json.dumps(facts, indent=1, allow_nan=False).removesuffix("\n}")
    lines = ",\n".join(f"  {json.dumps(row, allow_nan=False)}" for row in few)
    return f'{head},\n "rows": [\n{lines}\n ]\n}}\n'


def remarks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What has to be said about the rows: each remark once, with the runs that it is about where not all have it."""
    done = [row for row in rows if "failed" not in row]
    about: dict[str, list[str]] = {}
    for row in done:
        for note in row["notes"]:
            about.setdefault(note, []).append(f"{row['scene']} {row['method']} seed {row['seed']}")
    said = [note if len(runs) == len(done) else f"{', '.join(runs)}: {note}" for note, runs in about.items()]
    for what, name in (("versions of the code", "code"), ("processors", "processor")):
        values = sorted({row[name] for row in done})
        if len(values) > 1:
            said.append(f"the rows come from {len(values)} {what} ({', '.join(values)})")
    return said


def _results(found: Sequence[Mapping[str, Any]], *, heading: str) -> list[str]:
    """Who leads, and a table for each scene."""
    lines = [f"- {sentence}" for sentence in verdicts(found)]
    for scene in dict.fromkeys(one["scene"] for one in found):
        lines += ["", f"{heading} {scene}", "", *_table([one for one in found if one["scene"] == scene])]
    return lines


def _table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The methods of one scene, best PSNR first."""
    with_lpips = any(one["lpips"] for one in found)
    head = ["Method", "PSNR, dB", "SSIM", "PSNR on edges, dB", *(["LPIPS"] if with_lpips else []), "Seeds"]
    head += ["Time, s", "Iterations", "Parameters", "File, MB", "Views a second"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for one in _by_psnr(found):
        scores = [_score(one["psnr"], 2), _score(one["ssim"], 4), _score(one["psnr_edge"], 2)]
        scores += [_score(one["lpips"], 4)] if with_lpips else []
        megabytes = None if one["bytes"] is None else one["bytes"] / 1e6
        costs = [(one["train_seconds"], ".1f"), (one["iterations"], ",.0f"), (one["parameters"], ",.0f")]
        costs += [(megabytes, ".2f"), (one["fps"], ".2f")]
        cells = [one["method"], *scores, str(one["seeds"])]
        cells += ["" if value is None else format(value, form) for value, form in costs]
        cells = cells if one["seeds"] else [one["method"], "failed", *[""] * (len(head) - 2)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _verdict(scene: str, ranked: Sequence[Mapping[str, Any]]) -> str:
    first, *others = ranked
    name, best = first["method"], first["psnr"]["mean"]
    if not others:
        return f"{scene}: {name} reaches {best:.2f} dB, with nothing to compare it with."
    ours = next((one for one in others if METHODS[one["method"]].role == "ours"), None)
    if METHODS[name].role == "baseline" and ours is not None and best > ours["psnr"]["mean"]:
        rival, leads = ours, f"{scene}: a baseline wins. {name} leads"
    else:
        rival, leads = others[0], f"{scene}: {name} leads"
    lead = best - rival["psnr"]["mean"]
    return f"{leads} with {best:.2f} dB, {lead:.2f} dB ahead of {rival['method']}{_doubt(lead, first, rival)}."


def _doubt(lead: float, first: Mapping[str, Any], rival: Mapping[str, Any]) -> str:
    spreads = [one["psnr"]["deviation"] for one in (first, rival)]
    if None in spreads:
        return " (one seed)"
    return ", which is within the spread of seeds" if lead <= max(spreads) else ""


def _ranked(found: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The methods of each scene that have a PSNR, best first."""
    scenes = dict.fromkeys(one["scene"] for one in found)
    ranked = {scene: [one for one in _by_psnr(found) if one["scene"] == scene and one["psnr"]] for scene in scenes}
    return {scene: some for scene, some in ranked.items() if some}


def _by_psnr(found: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(found, key=lambda one: one["psnr"]["mean"] if one["psnr"] else float("-inf"), reverse=True)


def _spread(values: Iterable[float | None]) -> dict[str, Any] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.mean(known), "deviation": deviation}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def _score(value: Mapping[str, Any] | None, digits: int) -> str:
    if value is None:
        return ""
    spread = "" if value["deviation"] is None else f" ± {value['deviation']:.{digits}f}"
    return f"{value['mean']:.{digits}f}{spread}"
