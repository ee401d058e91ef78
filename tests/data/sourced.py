"""The data service with sources, for the tests of rules."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict

from aimass.v1 import sources_pb2
from aimass.v1.sources_pb2_grpc import SourcesStub
from tests.support.house import House, house


@contextlib.asynccontextmanager
async def sourced(home: Path, kinds: Mapping[str, Any]) -> AsyncIterator[House]:
    """The service, running, with sources of these names that are in place below the home folder."""
    async with house(home, "data") as running:
        stub = running.stub(SourcesStub, "data")
        for name, kind in kinds.items():
            await stub.CreateSource(ParseDict({"source": name, **kind}, sources_pb2.CreateSourceRequest()))
        yield running
