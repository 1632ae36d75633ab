"""The page about a run, from made-up results."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from pictures import Panels
from report import Report, page

WITHOUT_LPIPS = {"psnr": 27.123, "ssim": 0.8912, "lpips": None, "psnr_edge": 24.5}


def made_up(**changes: Any) -> Report:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (24, 32, 3), dtype=np.uint8) for _ in range(6)]
    settings: dict[str, Any] = {
        "title": "A <still> life",
        "summary": "Two views & a network.",
        "orbit": pictures[:3],
        "comparisons": {f"view {i}": Panels(*pictures) for i in range(2)},
        "metrics": {
            "mean": {**WITHOUT_LPIPS, "psnr": 27.5},
            "base": WITHOUT_LPIPS,
            "per_image": [{"name": "view 0", **WITHOUT_LPIPS}],
            "notes": ["LPIPS (vgg): the weights are missing"],
        },
        "commands": ["ns-train qsplat --data scenes/stilllife"],
    }
    return Report(**{**settings, **changes})


class Addresses(HTMLParser):
    """Collects whatever an element would load or lead to, and checks that elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset") and value]
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_asks_nothing_of_the_net():
    text = page(made_up())
    addresses = Addresses()
    addresses.feed(text)
    assert addresses.open == []
    assert addresses.found
    assert all(address.startswith("data:image/webp;base64,") for address in addresses.found)
    assert re.search(r"https?://|//[a-z]+\.|@import|url\(", text) is None


def test_page_shows_the_metrics_and_their_change():
    text = page(made_up())
    assert "27.12" in text
    assert "27.50" in text
    assert "+0.38" in text


def test_missing_lpips_is_shown_as_missing_with_its_reason():
    text = page(made_up())
    assert "not measured" in text
    assert "the weights are missing" in text


def test_text_is_escaped():
    text = page(made_up())
    assert "A &lt;still&gt; life" in text
    assert "Two views &amp; a network." in text
    hostile = {"</script><b>": Panels(*[np.zeros((8, 8, 3), np.uint8)] * 6)}
    assert "</script><b>" not in page(made_up(comparisons=hostile))


def test_page_without_an_animation_shows_a_picture():
    assert "data:image/webp" in page(made_up(orbit=[]))


def test_page_without_held_out_views_is_refused():
    with pytest.raises(ValueError, match="0 held-out views"):
        page(made_up(comparisons={}))
