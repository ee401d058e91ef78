"""Memory of a Triton server while versions come and go: `python -m tests.bench.triton_reload [reloads] [MiB ...]`.

Starts a server of its own, loads and unloads a version through our adapter, prints the resident size of the server and
of its children before, at every tenth, and after. Nothing here is asserted.
"""

import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy
import psutil

from services.inference.domain.batches import Item
from services.inference.domain.engines import Released
from services.inference.engine_triton import TritonServer
from services.inference.triton.loading import TritonLoader
from services.inference.triton.needs import Needs
from services.inference.wire import signature_from_wire
from services.kit.cache import NearCache
from services.kit.digests import digest_of
from services.kit.tensors import Tensor
from tests.support import models
from tests.support.servers import Program, make


def sizes(program: Program) -> str:
    """Resident MiB of the server and of its children, and how many there are."""
    assert program.process
    family = [psutil.Process(program.process.pid), *psutil.Process(program.process.pid).children(recursive=True)]
    server = next(process for process in family if process.name() == "tritonserver")
    children = [process for process in server.children(recursive=True) if process.status() != psutil.STATUS_ZOMBIE]
    mib = [sum(process.memory_info().rss for process in some) / 2**20 for some in ([server], children)]
    return f"server {mib[0]:7.1f} MiB   {len(children)} children {mib[1]:7.1f} MiB"


async def reload(loader: TritonLoader, data: bytes, number: int) -> float:
    """Seconds that a version took from the push until it answered."""

    async def read() -> bytes:
        return data

    signature = signature_from_wire(models.signature(data))
    version = Released(number, digest_of(data), signature)
    began = time.perf_counter()
    engine = await loader.load(f"bench.default.late.{number}", version, read)
    row = Tensor("i", "INT64", (1,), numpy.array([1], "<i8").tobytes())
    await engine.infer([Item("r", time.monotonic() + 10, [row])])
    took = time.perf_counter() - began
    await engine.close()
    return took


async def measure(program: Program, megabytes: float, reloads: int) -> None:
    """Prints one size of model."""
    data = models.lookup(int(megabytes * 2**18))
    needs = Needs(NearCache(), "triton", "bench")
    loader = TritonLoader(TritonServer(f"triton://{program.address}"), 64, needs)
    print(f"\n{len(data) / 2**20:.1f} MiB, {reloads} reloads\n  before   {sizes(program)}")
    for number in range(1, reloads + 1):
        took = await reload(loader, data, number)
        if number % max(reloads // 10, 1) == 0:
            await asyncio.sleep(5)  # the process of the version ends by itself
            print(f"  {number:6}   {sizes(program)}   {took:.2f} s")
    await loader.close()


def main() -> None:
    """Measures and prints."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    reloads = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        program = make("triton", Path(folder)).start()
        try:
            for megabytes in [float(text) for text in sys.argv[2:]] or [0.1, 20.0]:
                asyncio.run(measure(program, megabytes, reloads))
        finally:
            program.stop()


if __name__ == "__main__":
    main()
