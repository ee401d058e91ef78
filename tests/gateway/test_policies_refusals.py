"""Refused predictions in the audit trail: each kind once in a while, whenever it began."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.gateway.policies.domain.rules import Facts
from services.gateway.policies.refusals import Refusals
from services.kit.auth import Principal, Scope

PRINCIPAL = Principal(Scope("acme", "default"), "key:abcd1234", ())
FACTS = Facts("key:abcd1234", "models.infer", datetime.now(UTC), "ModelInfer", "models/late", address="127.0.0.1")


class Trail:
    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    async def add(self, *line: Any, **fields: Any) -> None:
        self.lines.append(line)


@pytest.mark.parametrize("looks", range(12))
async def test_what_is_refused_all_the_time_is_told_once_in_ten_looks_whenever_it_begins(looks: int) -> None:
    trail = Trail()
    refusals = Refusals(trail.add)
    for _ in range(looks):
        await refusals.tell()

    for _ in range(10):
        refusals.note(PRINCIPAL, "r", FACTS, "night")
        await refusals.tell()
    assert len(trail.lines) == 1

    for _ in range(10):
        refusals.note(PRINCIPAL, "r", FACTS, "night")
        await refusals.tell()
    assert len(trail.lines) == 2


async def test_another_rule_that_refuses_is_told_as_well() -> None:
    trail = Trail()
    refusals = Refusals(trail.add)
    for rule in ("night", "weekend", "night"):
        refusals.note(PRINCIPAL, "r", FACTS, rule)
        await refusals.tell()

    assert len(trail.lines) == 2
