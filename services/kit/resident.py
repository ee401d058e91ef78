"""Children that stay: started with the first request, they answer one after another and keep what they have in memory.

`process` starts and watches them as it does others, so each request has limits of its own. What breaks one (time,
memory, processor time, a kill, a caller who left) ends the child, and the next request starts another; a failure that
the work itself raised does not, unless it is about a limit.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from services.kit.child import Json
from services.kit.errors import Code, Failure, Internal
from services.kit.process import Limits, death, entry, start, tail, talk_to, watch_over
from services.kit.spent import Spent

_Running = tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamWriter, "asyncio.Future[str]"]


class Resident:
    """One such child. Requests of several callers must be given one at a time."""

    def __init__(self) -> None:
        self._there: _Running | None = None

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._there[0].pid if self._there and self._there[0].returncode is None else 0

    async def run(
        self,
        module: str,
        request: Json,
        limits: Limits | None = None,
        progress: Callable[[Any], Awaitable[None]] | None = None,
        spent: Spent | None = None,
    ) -> Json:
        """As `process.run`, in the child that is there; `limits` are of this request."""
        limits, spent = limits or Limits(), spent or Spent()
        process, reader, writer, stderr = await self._begun(module, limits)
        spent.begin(process.pid)
        talk = asyncio.ensure_future(talk_to(reader, writer, request, progress, spent))
        watch = asyncio.ensure_future(watch_over(process.pid, limits, spent))
        answered = False
        try:
            async with asyncio.timeout(limits.seconds):
                await asyncio.wait({talk, watch}, return_when=asyncio.FIRST_COMPLETED)
            if talk.done():
                found = talk.exception()
                answered = found is None or (isinstance(found, Failure) and found.code is not Code.LIMIT_EXCEEDED)
                return talk.result()
            watch.result()
            raise Internal("internal error")
        except TimeoutError:
            raise Failure(Code.LIMIT_EXCEEDED, f"the work took longer than {limits.seconds:g} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await death(module, process, stderr) from None
        finally:
            for task in (talk, watch):
                task.cancel()
            spent.look(process.pid)
            if not answered:
                await asyncio.shield(self.end())

    async def _begun(self, module: str, limits: Limits) -> _Running:
        if self._there and self.pid:
            return self._there
        await self.end()
        process, reader, writer = await start(entry(module, stays=True), limits)
        self._there = process, reader, writer, asyncio.ensure_future(tail(process))
        return self._there

    async def end(self) -> None:
        """Ends the child, if there is one, and with it all that it holds."""
        if self._there is None:
            return
        (process, _, writer, stderr), self._there = self._there, None
        writer.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())
        stderr.cancel()
