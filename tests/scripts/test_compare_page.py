"""The page of a comparison, from made-up results: as text, and in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Page, opened
from comparison.page import page
from comparison.tables import summary
from test_compare import row
from test_demo_report import Addresses

NAMES = ("splat", "qsplat", "qsplat-plus", "qsplat-nerf")


def made_up() -> list[dict]:
    """Rows of two scenes and two seeds. On the second a baseline wins, and one method has failed."""
    rows = []
    for seed in range(2):
        for index, name in enumerate(NAMES):
            found = row(20.0 + index + 0.5 * seed, pictured=10 * index)
            rows.append({"method": name, "scene": "ours", "seed": seed, **found})
            if name == "qsplat":
                rows.append({"method": name, "scene": "<theirs>", "seed": seed, "failed": "no </script> photos"})
            else:
                rows.append({"method": name, "scene": "<theirs>", "seed": seed, **{**found, "notes": ["A & B"]}})
    return rows


def text(rows: list[dict]) -> str:
    settings = {"command": "python scripts/compare.py --scene a & b", "budget": "60 s", "unit": "seconds"}
    settings |= {"max_side": 48, "gaussians": 100, "seeds": 2}
    machine = {"processor": "abacus", "cores": 2, "python": "3", "torch": "2"}
    return page({"settings": settings, "machine": machine, "summary": summary(rows), "rows": rows}, rows)


def test_page_is_well_formed_escaped_and_asks_nothing_of_the_net():
    written = text(made_up())
    addresses = Addresses()
    addresses.feed(
        re.sub(r"<(script|style).*?</\1>", "", written.replace('<link rel="icon" href="data:,">', ""), flags=re.DOTALL)
    )
    assert addresses.open == []
    assert addresses.found == []
    assert "default-src 'none'" in written
    assert re.findall(r"https?://[^\"]*", written) == ["http://www.w3.org/2000/svg"]
    assert "&lt;theirs&gt;" in written
    assert "<theirs>" not in re.sub(r'<script type="application/json".*?</script>', "", written, flags=re.DOTALL)
    assert "no </script>" not in written
    assert "python scripts/compare.py --scene a &amp; b" in written


def test_page_says_which_method_leads_and_where_a_baseline_does():
    written = text(made_up())
    assert '<li class="baseline"><b>ours</b>: a baseline wins. qsplat-nerf leads with 23.25 dB' in written
    assert "1.00 dB ahead of qsplat-plus" in written
    assert "<b>23.25</b> <small>± 0.35</small>" in written
    assert written.count("qsplat, seed 0 failed: no &lt;/script&gt; photos") == 1


def test_page_of_runs_that_all_failed_says_so():
    written = text([{"method": "splat", "scene": "a", "seed": 0, "failed": "no photos"}])
    assert "One method, one scene" in written
    assert '<td class="failed">failed</td>' in written
    assert "a, splat, seed 0 failed: no photos" in written


# In a browser


@pytest.fixture(scope="module")
def browsed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "comparison.html").write_text(text(made_up()), encoding="utf-8")
    with opened(folder / "comparison.html", folder / "profile") as opened_page:
        opened_page.wait_for("document.body?.dataset.ready === 'yes'")
        yield opened_page


def pixels(canvas: str) -> str:
    """An expression: what is drawn on the canvas that a selector finds."""
    return f"document.querySelector('{canvas}').toDataURL()"


def choose(page: Page, select: str, value: str) -> None:
    page.value(f"{{const s = document.getElementById('{select}'); s.value = '{value}'; "
               "s.dispatchEvent(new Event('change'))}")  # fmt: skip


def test_all_pictures_load(browsed: Page):
    pictures = browsed.value("[...document.images].map((one) => [one.complete, one.naturalWidth, one.naturalHeight])")
    assert len(pictures) == 5
    assert all(one == [True, 48, 36] for one in pictures)
    sizes = browsed.value("[...document.querySelectorAll('#maps canvas')].map((one) => [one.width, one.height])")
    assert sizes == [[48, 36]] * 4
    assert browsed.value("document.querySelectorAll('#crops figure').length") == 5
    assert browsed.value("document.querySelectorAll('.chart polyline').length") == 8


def test_the_slider_moves_by_keyboard_and_by_mouse(browsed: Page):
    clip = "document.querySelector('.slider .over').style.clipPath"
    browsed.value("document.getElementById('share').focus()")
    before = browsed.value("document.getElementById('share').value")
    for _ in range(4):
        browsed.press("ArrowRight", code=39)
    assert float(browsed.value("document.getElementById('share').value")) == float(before) + 2
    assert browsed.value(clip) == "inset(0px 48% 0px 0px)"
    browsed.value("document.querySelector('.slider').scrollIntoView({block: 'center'})")
    left, top, width, height = browsed.value(
        "(({left, top, width, height}) => [left, top, width, height])"
        "(document.querySelector('.slider').getBoundingClientRect())"
    )
    browsed.drag((left + 0.5 * width, top + 0.4 * height), (left + 0.8 * width, top + 0.4 * height))
    assert float(browsed.value("document.getElementById('share').value")) == pytest.approx(80, abs=2)
    assert float(browsed.value("parseFloat(document.querySelector('.slider .bar').style.left)")) == pytest.approx(
        80, abs=2
    )


def test_both_sides_of_the_slider_can_be_chosen(browsed: Page):
    choose(browsed, "left-choice", "qsplat")
    choose(browsed, "right-choice", "splat")
    assert browsed.value("document.getElementById('left-tag').textContent") == "qsplat, 21.00 dB"
    assert browsed.value("document.getElementById('right-tag').textContent") == "splat, 20.00 dB"
    assert browsed.value("document.getElementById('left').src !== document.getElementById('right').src")
    choose(browsed, "left-choice", "photo")
    assert browsed.value("document.getElementById('left').src === document.getElementById('locator-photo').src")


def test_the_close_up_follows_the_frame(browsed: Page):
    frame = "(({left, top, width}) => [left, top, width])(document.getElementById('frame').style)"
    browsed.value("state.size = 16; state.x = 8; state.y = 8; showCrops()")
    before, drawn = browsed.value(frame), browsed.value(pixels("#crops canvas"))
    browsed.value("document.getElementById('locator').focus()")
    browsed.press("ArrowRight", code=39)
    browsed.wait_for(f"{pixels('#crops canvas')} !== '{drawn}'")
    after = browsed.value(frame)
    assert float(after[0].rstrip("%")) == pytest.approx(100 * 4 / 48, abs=0.01)
    assert after[1:] == before[1:]
    browsed.press("-")
    browsed.wait_for("document.querySelector('#crops canvas').width === 24")


def test_maps_show_the_absolute_error_and_the_residual(browsed: Page):
    error = browsed.value(pixels("#maps canvas"))
    expected = browsed.value(
        "Promise.all([pixels(view().photo), pixels(view().images.splat)]).then(([photo, image]) => {"
        "const worst = {at: 0, sum: -1};"
        "for (let at = 0; at < photo.values.length; at += 4) { let sum = 0;"
        "for (let c = 0; c < 3; c++) sum += Math.abs(photo.values[at + c] - image.values[at + c]);"
        "if (sum > worst.sum) Object.assign(worst, {at, sum}); }"
        "const share = Math.min(1, worst.sum / 765 / data.errorRange);"
        "const shown = document.querySelector('#maps canvas').getContext('2d')"
        ".getImageData((worst.at / 4) % photo.width, Math.floor(worst.at / 4 / photo.width), 1, 1).data;"
        "return [[...shown].slice(0, 3), data.inferno[Math.round(255 * share)]]; })"
    )
    assert expected[0] == expected[1]
    browsed.value("document.querySelector('[data-map=residual]').click()")
    browsed.wait_for(f"{pixels('#maps canvas')} !== '{error}'")
    assert browsed.value("document.querySelector('[data-map=residual]').getAttribute('aria-pressed')") == "true"
    assert "amplified around grey" in browsed.value("document.getElementById('map-legend').textContent")


def test_another_scene_shows_its_own_pictures_lines_and_table(browsed: Page):
    browsed.value("document.querySelectorAll('.scenes button')[1].click()")
    browsed.wait_for("document.querySelectorAll('#maps figure').length === 3")
    visible = "[...document.querySelectorAll('[data-scene-table]')].map((one) => one.hidden)"
    assert browsed.value(visible) == [True, False]
    assert browsed.value("[...document.getElementById('left-choice').options].map((one) => one.value)") == [
        *("photo", "splat", "qsplat-plus", "qsplat-nerf")
    ]
    browsed.value("document.querySelectorAll('#views button')[1].click()")
    browsed.wait_for("document.querySelectorAll('#views button')[1].getAttribute('aria-pressed') === 'true'")
    browsed.value("document.querySelectorAll('.scenes button')[0].click()")
    browsed.wait_for("document.querySelectorAll('#maps figure').length === 4")


def test_everything_that_can_be_done_can_be_reached_by_the_tabulator(browsed: Page):
    browsed.value("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(40):
        browsed.press("Tab", code=9)
        reached.add(browsed.value("document.activeElement.id || document.activeElement.parentElement?.className"))
    assert {"share", "left-choice", "right-choice", "locator", "scenes", "toggle", "pick"} <= reached


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_is_as_wide_as_its_window(browsed: Page, width: int):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browsed.send("Emulation.setDeviceMetricsOverride", **size)
    assert browsed.value("document.documentElement.scrollWidth") <= width


def test_the_console_is_silent_and_nothing_is_asked_of_the_net(browsed: Page):
    browsed.value("0")
    assert browsed.complaints == []
    addresses = [address for address in browsed.requests if not address.startswith("data:")]
    assert [Path(address).name for address in addresses] == ["comparison.html"]
    assert addresses[0].startswith("file:///")
