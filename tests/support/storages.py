"""Both ways to keep bytes, for the suites that take both: a folder, and a bucket of a real S3 server."""

import base64
import contextlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from services.kit import adapters
from services.kit.adapters import Storage
from services.kit.config import Installation, load
from tests.support.servers import PASSWORD, USER, Missing, Program, address, make

BOTH = [pytest.param("near"), pytest.param("far", marks=pytest.mark.far)]
# And a bucket in which bytes lie sealed, as they do in a folder.
ALL = [*BOTH, pytest.param("sealed", marks=pytest.mark.far)]


def settings(kind: str, server: str = "") -> dict[str, str]:
    """The environment of an installation that keeps bytes so; a far one has a place of its own in the bucket."""
    if kind == "near":
        return {}
    bucket, _, rest = (server or address("s3")).partition("?")
    key = {"AIMASS_SECRETS_KEY": base64.b64encode(secrets.token_bytes(32)).decode()} if kind == "sealed" else {}
    return key | {
        "AIMASS_BLOBS_URL": f"{bucket}/{secrets.token_hex(8)}?{rest}",
        "AIMASS_BLOBS_ACCESS_KEY": USER,
        "AIMASS_BLOBS_SECRET_KEY": PASSWORD,
    }


def storage(home: Path, env: dict[str, str]) -> Storage:
    """What a process with this home and environment has."""
    return adapters.storage(load(Installation, {"AIMASS_HOME": str(home), **env}))


@contextlib.contextmanager
def own_server(folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """An S3 server of the test's own, which it may kill and whose files it may change; only in a far run."""
    address("s3")
    try:
        program = make("s3", folder)
        program.env.update(env or {})
        program.start()
    except Missing as error:
        pytest.skip(str(error))
    try:
        yield program
    finally:
        program.end()


def objects(program: Program) -> list[Path]:
    """The files in which an own server keeps the objects of its bucket."""
    return sorted(path for path in (program.folder / "s3" / "far").rglob("*") if path.is_file())
