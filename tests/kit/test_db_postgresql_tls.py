"""Certificates on both sides of the line to PostgreSQL, with the rules of the deployment on a real server."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from cryptography import x509
from sqlalchemy import text
from sqlalchemy.engine import Connection, make_url

from deploy.authority import Authority
from deploy.servers import Asking
from services.kit import tls as tls_module
from services.kit.db import Database
from services.kit.errors import Code, Failure
from services.kit.stack import copy_postgresql
from services.kit.tls import Credentials
from tests.kit.conftest import migrations
from tests.support import servers
from tests.support.certificates import certify
from tests.support.house import until
from tests.support.server import ROOT

pytestmark = pytest.mark.far
# The tests' own way in, for making roles; everything else is as deployed.
ADMIN = f"host postgres {servers.USER} 127.0.0.1/32 scram-sha-256\n"


class Server(NamedTuple):
    """A server of these tests, the authority of its certificate, and the folder where it lies."""

    program: servers.Program
    authority: Authority
    folder: Path

    def certify(self) -> None:
        """A new certificate, which the server takes when it is told to."""
        certify(self.folder, self.authority, "postgres", "127.0.0.1")
        (self.folder / "key.pem").chmod(0o600)
        if self.program.user:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, self.program.user)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    servers.address("postgres")  # skips where there is none
    with tempfile.TemporaryDirectory(prefix="aimass-far-") as folder:
        made = Server(servers.make("postgres", Path(folder) / "server"), Authority.new(), Path(folder) / "server/tls")
        made.certify()
        rules = made.folder.parent / "pg_hba.conf"
        rules.write_text(ADMIN + (ROOT / "deploy/postgres/pg_hba.conf").read_text())
        rules.chmod(0o644)
        files = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
        settings = {"hba_file": rules, "ssl": "on"}
        settings |= {f"ssl_{name}_file": made.folder / file for name, file in files.items()}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        made.program.command = [*made.program.command, *options]
        made.program.start()
        yield made
        made.program.stop()


@pytest.fixture
def url(server: Server) -> str:
    return f"{servers.database(server.program.address)}?sslmode=verify-full"


@pytest.fixture
def own(server: Server, tmp_path: Path) -> Path:
    return certify(tmp_path / "own", server.authority, "data")


def opened(url: str, tmp_path: Path, own: Path | None) -> Database:
    return Database(url, migrations(tmp_path), credentials=Credentials(own) if own else None)


def shown(connection: Connection) -> tuple[str, int]:
    """Whose certificate the server has seen, and its number."""
    asked = "SELECT client_dn, client_serial FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    name, number = connection.execute(text(asked)).one()
    return str(name), int(number)


async def refused(db: Database) -> None:
    with pytest.raises(Failure) as caught:
        await db.start()
    db.close()
    assert (caught.value.code, caught.value.detail) == (Code.UNAVAILABLE, "the database cannot be reached")


async def test_a_service_shows_its_certificate(url: str, own: Path, tmp_path: Path) -> None:
    db = opened(url, tmp_path, own)
    await db.start()

    assert (await db.read(shown))[0] == "/CN=data"
    db.close()


async def test_a_key_that_a_group_may_read_is_shown_and_no_copy_of_it_is_left(
    url: str, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (passing := tmp_path / "passing").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(passing))
    assert (own / "key.pem").stat().st_mode & 0o777 == 0o640
    if os.getuid() == 0:  # of a file of root's libpq would let it pass
        os.chown(own / "key.pem", 10002, 10002)
    db = opened(url, tmp_path, own)
    await db.start()
    db.close()

    assert list(passing.iterdir()) == []


async def test_a_stranger_with_the_right_password_is_refused(url: str, server: Server, tmp_path: Path) -> None:
    bare = f"{url}&sslrootcert={server.folder / 'ca.pem'}"
    with pytest.raises(psycopg.OperationalError, match="requires a valid client certificate"):
        psycopg.connect(bare.replace("+psycopg", ""))
    await refused(opened(bare, tmp_path, None))


async def test_a_certificate_of_another_authority_is_refused(url: str, server: Server, tmp_path: Path) -> None:
    other = certify(tmp_path / "other", Authority.new(), "data", trust=server.authority.pem)

    await refused(opened(url, tmp_path, other))


async def test_a_certificate_without_the_password_is_refused(url: str, own: Path, tmp_path: Path) -> None:
    wrong = make_url(url).set(password="guessed").render_as_string(hide_password=False)

    await refused(opened(wrong, tmp_path, own))


async def test_a_line_without_tls_is_refused(url: str, own: Path, tmp_path: Path) -> None:
    await refused(opened(url.replace("verify-full", "disable"), tmp_path, own))


async def test_a_server_of_another_authority_is_not_believed(url: str, tmp_path: Path) -> None:
    await refused(opened(url, tmp_path, certify(tmp_path / "other", Authority.new(), "data")))


async def test_a_certificate_that_the_url_names_goes_before(url: str, server: Server, tmp_path: Path) -> None:
    named = certify(tmp_path / "named", server.authority, "named")
    (named / "key.pem").chmod(0o600)
    files = f"&sslcert={named / 'cert.pem'}&sslkey={named / 'key.pem'}&sslrootcert={named / 'ca.pem'}"
    db = opened(url + files, tmp_path, certify(tmp_path / "own", server.authority, "data"))
    await db.start()

    assert (await db.read(shown))[0] == "/CN=named"
    db.close()


def test_a_backup_shows_its_certificate(url: str, own: Path) -> None:
    with copy_postgresql.session(url, "READ COMMITTED", Credentials(own)) as connection:
        assert shown(connection)[0] == "/CN=data"


async def test_a_services_renewed_certificate_is_shown_by_the_next_connection(
    url: str, own: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "_LOOK", 0.0)
    credentials, numbers = Credentials(own), list[int]()
    for _ in range(2):
        with copy_postgresql.session(url, "READ COMMITTED", credentials) as connection:
            numbers.append(shown(connection)[1])
        certify(own, server.authority, "data")

    assert len(set(numbers)) == 2


async def test_the_server_takes_a_renewed_certificate_and_ends_no_connection(
    url: str, own: Path, server: Server, tmp_path: Path
) -> None:
    db = opened(url, tmp_path, own)
    await db.start()
    asked = text("SELECT pg_backend_pid()")
    before = await db.read(lambda c: c.execute(asked).scalar_one()), presented(server)
    server.certify()
    assert server.program.process
    server.program.process.send_signal(signal.SIGHUP)

    await until(lambda: presented(server) != before[1], 5)
    assert await db.read(lambda c: c.execute(asked).scalar_one()) == before[0]
    db.close()


def presented(server: Server) -> x509.Certificate:
    """The certificate that the server shows to a new connection."""
    where = make_url(server.program.address)
    return Asking(server.folder).shown("postgres", where.host or "", where.port or 0)
