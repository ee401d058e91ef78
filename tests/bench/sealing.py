"""What sealing costs: a blob is adopted, read as a stream and got whole, plain and sealed, in turns.

`python -m tests.bench.sealing [MiB] [rounds]`. Nothing here is asserted: it prints seconds, CPU seconds and ratios.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.kit.blobs import Blobs, FolderBlobs
from services.kit.blobs_sealed import SealedBlobs
from services.kit.key_store import FolderKeys
from services.kit.secrets import Vault
from services.kit.tenant_keys import TenantKeys

Figures = dict[tuple[str, str], list[tuple[float, float]]]


async def timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Seconds of the clock, and of the processor."""
    began, cpu = time.perf_counter(), time.process_time()
    await work()
    return time.perf_counter() - began, time.process_time() - cpu


async def one(blobs: Blobs, data: bytes, name: str, found: Figures) -> None:
    """Each step once, with bytes that the store does not have."""
    file = blobs.scratch("acme") / "made"
    file.write_bytes(data)
    digest = ""

    async def adopt() -> None:
        nonlocal digest
        digest = await blobs.adopt("acme", file)

    async def read(offset: int) -> None:
        async for _ in blobs.read("acme", digest, offset):
            pass

    for step, work in (
        ("adopt", adopt),
        ("read", lambda: read(0)),
        ("read its last MiB", lambda: read(max(0, len(data) - 2**20))),
        ("get", lambda: blobs.get("acme", digest)),
    ):
        found.setdefault((step, name), []).append(await timed(work))
    await blobs.delete("acme", digest)


async def main(size: int, rounds: int) -> None:
    """Prints the medians of all rounds."""
    found: Figures = {}
    with tempfile.TemporaryDirectory(prefix="aimass-sealing-") as folder:
        home = Path(folder)
        stores: dict[str, Blobs] = {
            "plain": FolderBlobs(home / "plain"),
            "sealed": SealedBlobs(FolderBlobs(home / "sealed"), TenantKeys(FolderKeys(home / "keys"), Vault(home))),
        }
        for _ in range(rounds):
            for name, store in stores.items():
                await one(store, os.urandom(size * 2**20), name, found)
        for store in stores.values():
            store.close()
    print(f"{size} MiB, medians of {rounds}: seconds (processor)")
    for step in dict.fromkeys(step for step, _ in found):
        plain, sealed = (
            [statistics.median(values) for values in zip(*found[step, name], strict=True)]
            for name in ("plain", "sealed")
        )
        figures = f"{plain[0]:8.3f} ({plain[1]:.3f}) plain {sealed[0]:8.3f} ({sealed[1]:.3f}) sealed"
        print(f"  {step:18}{figures}   x {sealed[0] / plain[0]:.2f} (x {sealed[1] / plain[1]:.2f})")


if __name__ == "__main__":
    asyncio.run(main(*(int(text) for text in sys.argv[1:3])) if len(sys.argv) > 2 else main(200, 5))
