"""Work that fails before it goes well."""

import asyncio


class Failing:
    """Fails so many times, and says 0 then: nothing is left to do."""

    def __init__(self, fails: int, error: Exception | None = None) -> None:
        self.fails, self.begun, self.done = fails, 0, asyncio.Event()
        self.error = error or KeyError("nobody has foreseen it")

    async def __call__(self) -> int:
        self.begun += 1
        if self.begun <= self.fails:
            raise self.error
        self.done.set()
        return 0
