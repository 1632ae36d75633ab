"""README, docs and docstrings: what they point to is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("qsplat", "nerfstudio_plugin", "scripts")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
LINK = re.compile(r"\]\(([^)#:]+)\)")
SECTION = re.compile(r'\]\(([^)#:]+\.md)\)(?: says)?,\s+"([^"]+)"')
NAMED = re.compile(r"(?<![\w./-])(?:docs|scripts)/[\w./-]*\w\.(?:md|json|jpg|png|svg|py)\b")


def titles(page: Path) -> set[str]:
    return {line.lstrip("#").strip() for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("#")}


def test_links_lead_somewhere():
    links = [(page, link) for page in PAGES for link in LINK.findall(page.read_text(encoding="utf-8"))]
    assert len(links) > 50
    assert [(page, link) for page, link in links if not (page.parent / link).exists()] == []


def test_sections_that_are_named_exist():
    named = [
        (page.parent / other, " ".join(title.split()))
        for page in PAGES
        for other, title in SECTION.findall(page.read_text(encoding="utf-8"))
    ]
    assert len(named) > 10
    assert [(page, title) for page, title in named if title not in titles(page)] == []


def test_files_that_are_named_exist():
    named = [(path, name) for path in (*PAGES, *SOURCES) for name in NAMED.findall(path.read_text(encoding="utf-8"))]
    assert len(named) > 100
    assert [(path, name) for path, name in named if not (ROOT / name).exists()] == []


def test_sections_are_found_across_lines():
    assert SECTION.findall('as [a.md](../a.md),\n"At equal\ntime", says') == [("../a.md", "At equal\ntime")]
