import asyncio
import time

from services.kit.deadlines import Deadlines
from tests.support.house import until


async def test_who_is_still_there_is_told_when_his_time_is_over_and_not_before() -> None:
    expired: list[tuple[str, float]] = []
    deadlines = Deadlines[str](lambda one: expired.append((one, time.monotonic())))
    begun = time.monotonic()
    for one, seconds in (("late", 0.2), ("soon", 0.05), ("with him", 0.05), ("at once", -1.0)):
        deadlines.add(one, begun + seconds)
    await until(lambda: len(expired) == 4)

    assert [one for one, _ in expired] == ["at once", "soon", "with him", "late"]
    assert all(at >= begun + seconds for (_, at), seconds in zip(expired, (-1.0, 0.05, 0.05, 0.2), strict=True))
    assert len(deadlines) == 0


async def test_who_was_answered_is_not_told_and_not_kept() -> None:
    expired: list[str] = []
    deadlines = Deadlines[str](expired.append)
    moment = deadlines.add("answered", time.monotonic() + 0.05)
    deadlines.drop("answered", moment)
    deadlines.add("other", time.monotonic() + 0.1)

    assert len(deadlines) == 1
    await until(lambda: expired == ["other"])
    deadlines.drop("other", moment)  # too late, and no harm


async def test_many_with_one_time_have_one_timer() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines[int](lambda one: None, lambda: 0.0)
    scheduled: list[object] = loop._scheduled  # type: ignore[attr-defined]
    before = len(scheduled)
    for one in range(100):
        deadlines.add(one, 50.0)

    assert len(deadlines) == 100
    assert len(scheduled) == before + 1
