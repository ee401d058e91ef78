"""The table of abuse in docs/abuse.md: it has every row, and the tests that it names are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = (*range(1, 19), 29, 30, *range(33, 38))
_ROW = re.compile(r"^\| A(\d+) \|(.*)\|(.*)\|(.*)\|$", re.M)
FOUND = {int(number): held for number, *_, held in _ROW.findall((ROOT / "docs" / "abuse.md").read_text())}


def test_every_row_is_there() -> None:
    assert tuple(FOUND) == ROWS


@pytest.mark.parametrize("number", FOUND)
def test_the_tests_that_a_row_names_are_there(number: int) -> None:
    named = re.findall(r"`([^`]+)::(\w+)`", FOUND[number])
    assert named
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
