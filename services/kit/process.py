"""The one launcher of child processes: heavy work with limits, no secrets, and messages on a socket of its own.

The parent owns the database, the child owns the CPU. The child ends when its socket closes, so a killed parent leaves
none; killing the child is always safe. `child` is the other side; `resident` has children that answer several requests.
"""

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.kit.child import FILES, LENGTH, SOCKET, Json, frame
from services.kit.errors import Code, Failure, Internal, Violation
from services.kit.messages import length_of, parse
from services.kit.spent import Spent

_SAMPLE = 0.1  # seconds between looks at the memory
_ROOT = Path(__file__).parents[2]


class Killed(Failure):
    """A signal ended the child: the kernel short of memory, or a person. The same work may succeed when done again."""


@dataclass(frozen=True)
class Limits:
    """What a child may take."""

    seconds: float = 3600.0
    memory_mib: int = 4096  # resident, of it and its children
    files: int = 1024
    threads: int = 2  # of every maths library
    cpu_milliseconds: float = math.inf  # of processors, of it and its children


async def run(
    module: str,
    request: Json,
    limits: Limits | None = None,
    progress: Callable[[Any], Awaitable[None]] | None = None,
    spent: Spent | None = None,
) -> Json:
    """Runs the entry module `module` on a request and returns its result.

    `progress` is awaited for each message, JSON or what was poured as bytes, before the next is read, so a slow parent
    slows the child, not its memory.
    Raises what the child raised as Failure, limit_exceeded, or internal when it died (Killed, when by a signal that
    did not come from here). Cancelling kills it. `spent` learns what it uses, however it ends.
    """
    limits, spent = limits or Limits(), spent or Spent()
    process, reader, writer = await start(entry(module), limits)
    stderr = asyncio.ensure_future(tail(process))
    watch = asyncio.ensure_future(watch_over(process.pid, limits, spent))
    talk = asyncio.ensure_future(talk_to(reader, writer, request, progress, spent))
    try:
        async with asyncio.timeout(limits.seconds):
            done, _ = await asyncio.wait({talk, watch}, return_when=asyncio.FIRST_COMPLETED)
        if talk in done:
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
        writer.close()
        spent.look(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())
        stderr.cancel()


async def start(
    code: str, limits: Limits
) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamWriter]:
    """A child that runs this code, and our end of its socket.

    When this is cancelled, both ends are closed, and with them the child.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                code,
                env=_environment(theirs.fileno(), limits),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                preexec_fn=None,
            )
        except BaseException:
            writer.close()
            raise
    return process, reader, writer


def _environment(descriptor: int, limits: Limits) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    path = os.pathsep.join([str(_ROOT), *filter(None, sys.path)])
    return kept | environment(str(descriptor), limits) | {"PYTHONPATH": path}


def environment(connection: str, limits: Limits) -> dict[str, str]:
    """Environment variables of the work, wherever it runs."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    return {name: str(limits.threads) for name in threads} | {
        SOCKET: connection,
        FILES: str(limits.files),
        # Threads that spin while they wait make a busy machine ten times slower: measured with LightGBM.
        "OMP_WAIT_POLICY": "PASSIVE",
        "DAFT_ANALYTICS_ENABLED": "0",
        "ORT_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONWARNINGS": "ignore",
    }


def entry(module: str, stays: bool = False) -> str:
    """The Python code that a child starts with; one that stays answers several requests."""
    serve = "attend" if stays else "child"
    return f"import {module} as entry; from services.kit.child import {serve}; {serve}(entry.main)"


async def talk_to(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: Json,
    progress: Callable[[Any], Awaitable[None]] | None,
    spent: Spent,
) -> Json:
    """Sends a request and returns its result. Raises what the work raised; IncompleteReadError when it has died."""
    writer.write(frame(request))
    await writer.drain()
    while True:
        body = await reader.readexactly(length_of(await reader.readexactly(LENGTH.size)))
        result, message = parse(body)
        if result is not None:
            spent.see(message)
            return result
        if progress:
            await progress(message)


async def tail(process: asyncio.subprocess.Process) -> str:
    """The end of the child's standard error; reading it keeps the pipe from filling up."""
    assert process.stderr
    kept = b""
    while piece := await process.stderr.read(65536):
        kept = (kept + piece)[-8192:]
    return kept.decode(errors="replace")


async def death(module: str, process: asyncio.subprocess.Process, stderr: "asyncio.Future[str]") -> Failure:
    """The failure for a child that ended without a result."""
    printed = ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):  # not wait_for: Python 3.11's can lose a cancellation
            printed = await asyncio.shield(stderr)
            await process.wait()
    about = [Violation("", printed[-2000:])]
    if (process.returncode or 0) < 0:
        return Killed(Code.INTERNAL, f"{module} was killed by signal {-(process.returncode or 0)}", about)
    return Internal(f"{module} died", about)


async def watch_over(pid: int, limits: Limits, spent: Spent) -> None:
    """Raises limit_exceeded when the tree of processes holds more memory, or has used more time, than it may."""
    while True:
        await asyncio.sleep(_SAMPLE)
        if spent.look(pid) > limits.memory_mib * 2**20:
            raise Failure(Code.LIMIT_EXCEEDED, f"the work needs more than {limits.memory_mib} MiB")
        if spent.cpu_milliseconds > limits.cpu_milliseconds:
            raise Failure(Code.LIMIT_EXCEEDED, "the work has used up the processor time that it was given")
