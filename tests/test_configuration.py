"""The page of settings is what the code says, and leaves nothing out."""

import re

import pytest
from pydantic import Field, SecretStr

from docs.tools import configuration
from services import SERVICES
from services.kit.config import Installation, Settings, of
from services.kit.telemetry.settings import OpenTelemetry
from tests.support.server import ROOT

PAGE = ROOT / "docs" / "configuration.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == configuration.page(), "make docs writes it anew"


def test_every_variable_is_on_the_page() -> None:
    documented = set(re.findall(r"`([A-Z0-9_]+)`", PAGE.read_text()))
    kinds: list[type[Settings]] = [Installation, OpenTelemetry, *map(of, SERVICES)]
    known = {variable for kind in kinds for variable in kind.variables()}

    assert {variable for variable in known if not (variable.endswith("_FILE") and variable[:-5] in known)} <= documented


class Odd(Settings):
    """Settings of every shape."""

    prefix = "ODD_"

    # What is behind `a|b`
    # and <others>.
    first: str = "x"
    second: int = Field(default=3, ge=1, lt=9)
    # Hidden.
    third: SecretStr = SecretStr("")


def test_fields_under_one_comment_share_it() -> None:
    assert [group.fields for group in configuration.groups(Odd)] == [["first", "second"], ["third"]]


def test_a_row_says_types_defaults_and_bounds() -> None:
    first, second = configuration.table(Odd).splitlines()[2:]

    assert "`ODD_FIRST`<br>`ODD_SECOND` | text<br>whole number from 1 below 9 | `x`<br>`3` |" in first
    assert first.endswith("What is behind `a\\|b` and \\<others>. |")
    assert "**secret** text | empty | Hidden." in second


class Silent(Settings):
    """Settings that nobody explains."""

    what: str = ""


def test_a_setting_without_a_word_is_refused() -> None:
    with pytest.raises(ValueError, match="what has no comment"):
        list(configuration.groups(Silent))
