"""The main job on small data, in one process and in two: the steps of the story share one installation per layout."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aimass import Client
from tests.support import flights
from tests.support.server import Server, free_ports, layout, serving
from tests.support.sink import Sink


@dataclass
class Story:
    """What the steps hand on to each other."""

    server: Server
    client: Client
    raw: Path
    sink: Sink
    known: dict[str, Any] = field(default_factory=dict)


LAYOUTS = {"far": ["real servers"], "compose": ["containers"]}.get(layout(), ["one process", "two processes"])
# What the installation calls this machine.
HERE = "host.docker.internal" if layout() == "compose" else "127.0.0.1"


@pytest.fixture(scope="module", params=LAYOUTS)
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("story")
    raw = folder / "raw"
    flights.write(raw, range(1, 10))
    (port,) = free_ports(1)
    roots, two = f"{raw}:{folder}/home/logs", request.param == "two processes"
    with (
        Sink(port, HERE) as sink,
        serving(
            folder / "home",
            alone=["registry"] if two else [],
            AIMASS_DATA_FILE_ROOTS=roots,
            AIMASS_EGRESS_ALLOW=f"{HERE}:{port}",
        ) as server,
        server.client() as client,
    ):
        yield Story(server, client, raw, sink)
