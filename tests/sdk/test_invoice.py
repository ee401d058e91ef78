"""Invoices out of events: by month, each line of the ledger once."""

from aimass.invoice import Item, rebuild


def told(entry: str, time: str = "2026-11-22T12:00:00Z", model: str = "late", **used: str) -> dict[str, str]:
    """An event as the log centre has it: what is nothing is not there."""
    fields = {"project": "default", "principal": "key:abcd1234", "kind": "serving", "model": model}
    fields |= {"entry": entry, "create_time": time} | {f"used.{name}": amount for name, amount in used.items()}
    return {f"entry.{name}": value for name, value in fields.items()}


def test_lines_of_one_caller_and_model_are_one_item() -> None:
    found = rebuild([told("1", requests="3", rows="30"), told("2", requests="4", money_micros="7")], "2026-11")

    item = Item("default", "key:abcd1234", "late", "serving", entries=2, requests=7, rows=30, money_micros=7)
    assert found == [item]


def test_models_are_apart_and_in_order() -> None:
    found = rebuild([told("1", model="b", rows="1"), told("2", model="a", rows="2")], "2026-11")

    assert [(item.model, item.rows) for item in found] == [("a", 2), ("b", 1)]


def test_an_event_that_comes_twice_counts_once() -> None:
    (item,) = rebuild([told("1", rows="5"), told("1", rows="5")], "2026-11")

    assert (item.entries, item.rows) == (1, 5)


def test_a_line_belongs_to_the_month_in_which_it_was_begun() -> None:
    events = [told("1", "2026-10-31T23:59:59Z", rows="1"), told("2", "2026-11-01T00:00:00Z", rows="2")]
    events.append(told("3", "2026-12-01T00:00:00Z", rows="4"))

    assert [item.rows for item in rebuild(events, "2026-11")] == [2]


def test_what_is_estimated_is_counted_apart() -> None:
    (item,) = rebuild([told("1", rows="1") | {"entry.estimated": "True"}, told("2", rows="1")], "2026-11")

    assert (item.entries, item.estimated) == (2, 1)
