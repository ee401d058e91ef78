from typing import Any

import pytest

from services.data.discovery.meanings import said


@pytest.mark.parametrize(
    ("name", "values", "meaning"),
    [
        ("page", ["https://a.example/x", "http://b.example", None] * 9, "page holds URLs"),
        ("page", [*["https://a.example/x"] * 9, "b.example"], ""),
        ("state", ["new", "open"] * 10, "state is one of 2 values"),
        ("order_no", [f"o{n}" for n in range(30)], "order_no has another value in each record"),
        ("delay_min", ["1", "2.5"] * 9, "delay_min is in minutes, by its name"),
        ("delay_min", ["1", "late"] * 9, ""),
        ("min", [1, 2] * 9, ""),
        ("value", [1, "one", 2.5, True] * 9, "value has numbers and texts and truth values"),
        ("value", [1, {"a": 1}, [2]] * 9, "value has numbers and objects or lists"),
        ("value", [{"a": 1}, [2]] * 9, ""),
        ("state", ["new", "open"], ""),
    ],
)
def test_what_a_column_is_about_is_said(name: str, values: list[Any], meaning: str) -> None:
    assert said([name], [[value] for value in values]) == meaning


def test_of_many_columns_only_some_are_said() -> None:
    text = said([f"{'c' * 90}{n}" for n in range(40)], [[m] * 40 for m in range(20)])

    assert len(text) <= 410
    assert text.endswith("; and more")
