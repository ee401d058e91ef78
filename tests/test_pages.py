"""What pages point to is there: files of this repository, headings in them, and functions."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = ("deploy", "docs", "examples", "sdk", "services", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(page for place in PLACES for page in (ROOT / place).rglob("*.md"))])
_BLOCK = re.compile(r"^( *)```.*?^\1```$", re.M | re.S)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.M)
# `gateway/edge.py::Edge.identify` below services/, or `tests/...`.
_FUNCTION = re.compile(r"`([\w/]+\.py)::([\w.]+)`")


def prose(page: Path) -> str:
    """A page without its blocks of code, in which a bracket is no link and a number sign no heading."""
    return _BLOCK.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in addresses."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(prose(page)))
    return {heading.strip().replace(" ", "-") for heading in plain}


def dead(page: Path) -> Iterator[str]:
    """Links of a page that lead to nothing, those to other hosts apart."""
    for link in _LINK.findall(prose(page)):
        name, _, anchor = link.partition("#")
        place = page.parent / name if name else page
        if "://" not in link and not (place.exists() and (not anchor or anchor in anchors(place))):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert list(dead(page)) == []


def test_a_link_to_another_file_or_heading_is_found_dead(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# What it `is`\n\n```sh\n# no heading\n```\n")
    links = ("other.md", "other.md#what-it-is", "#here", "https://a.example", "gone.md", "other.md#no-heading", "#not")
    page.write_text("## Here\n" + " ".join(f"[a]({link})" for link in links))

    assert list(dead(page)) == ["gone.md", "other.md#no-heading", "#not"]


@cache
def functions(path: Path) -> set[str]:
    """Every class, function and method of a module, as `Edge.identify`."""

    def inside(node: ast.AST, around: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield around + child.name
                yield from inside(child, f"{around}{child.name}.")

    return set(inside(ast.parse(path.read_text()), ""))


def unknown(page: Path) -> Iterator[str]:
    """Functions named on a page that are not there."""
    for file, function in _FUNCTION.findall(page.read_text()):
        path = (ROOT if file.startswith("tests/") else ROOT / "services") / file
        if not path.exists() or function not in functions(path):
            yield f"{file}::{function}"


def test_every_function_named_on_a_page_exists() -> None:
    assert [f"{page.name}: {one}" for page in PAGES for one in unknown(page)] == []
    assert len(_FUNCTION.findall((ROOT / "docs" / "walks.md").read_text())) > 20


def test_a_function_that_is_gone_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`kit/errors.py::Failure.of`, `kit/errors.py::Failure.gone`, `kit/nothing.py::gone`")

    assert list(unknown(page)) == ["kit/errors.py::Failure.gone", "kit/nothing.py::gone"]
