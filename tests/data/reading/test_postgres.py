"""PostgreSQL as a source without a server: URLs, what a rule may say, and servers that are not what they seem.

With a real server: tests/far/test_postgres_sources.py.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from services.data.reading import patience, postgres
from services.data.reading.connectors import connector
from services.data.reading.folders import Place
from services.data.reading.kinds import RuleColumn, SqlRule, SqlSource, to_json
from services.data.reading.postgres_server import Server, server_of
from services.data.reading.select import compile_select
from services.data.reading.sqlite import Table
from services.data.schema import ColumnType
from services.kit.errors import Code, Failure

SOURCE = SqlSource("postgresql://reader@db.example/shop", "sales.orders", "id", "secret-word")
TABLE = Table((("id", ColumnType.INT64), ("name", ColumnType.STRING), ("at", ColumnType.TIMESTAMP)), "id")


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("postgresql://a@h/d", Server("h", 5432, "a", "d", "")),
        ("postgresql+psycopg://a%40b@h:6000/d%20e?sslmode=require", Server("h", 6000, "a@b", "d e", "require")),
        ("postgresql://a@[::1]/d", Server("::1", 5432, "a", "d", "")),
    ],
)
def test_a_url_names_a_server(url: str, server: Server) -> None:
    assert server_of(url) == server


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a:b@h/d",
        "postgresql://h/d",
        "postgresql://a@h",
        "postgresql://a@/d",
        "postgresql://a@h:x/d",
        "postgresql://a@h:99999/d",
        "postgresql://a@h/d?host=/tmp",
        "postgresql://a@h/d?sslmode=no",
        "postgresql://a@h/d?options=-csearch_path%3Devil",
        "postgresql://a@h/d/e",
        "postgresql://a@h/d#x",
    ],
)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(Failure) as caught:
        server_of(url)
    assert caught.value.code is Code.INVALID_VALUE


def test_a_password_is_in_no_text_and_in_no_definition() -> None:
    place = Place(Path("/"), (), "192.0.2.1", True, "secret-word")
    assert "secret-word" not in f"{SOURCE!r} {place!r} {to_json(SOURCE)}"
    assert Place.from_json(place.to_json()) == place


def compiled(sql: str, *columns: RuleColumn) -> str:
    return compile_select(SqlRule(sql, columns), SOURCE, TABLE).statement


def test_what_runs_is_written_from_the_checked_tree() -> None:
    written = compiled("SELECT *, upper(name) AS id2 FROM orders WHERE name ILIKE 'a%' -- all", text("id2"))
    assert written == (
        'SELECT "id" AS "id", "name" AS "name", "at" AS "at", UPPER("name") AS "id2", "id"::text AS "__cursor", '
        '"id"::text AS "__key" FROM "sales"."orders" AS "__rows" WHERE ("name" ILIKE \'a%\')'
    )


def text(name: str) -> RuleColumn:
    return RuleColumn(name, name, ColumnType.STRING)


@pytest.mark.parametrize(
    "value",
    [
        "date_trunc('hour', at)",
        "extract(year from at)",
        "CAST(name AS bigint)",
        "at::date",
        "CASE WHEN name = 'a' THEN 1 ELSE 2 END",
        "substring(name, 1, 3) || 'x'",
        "coalesce(name, '')",
    ],
)
def test_a_value_may_be_computed(value: str) -> None:
    assert compiled(f"SELECT id, {value} AS x FROM orders", text("x"))


@pytest.mark.parametrize(
    "value",
    [
        "pg_sleep(10)",
        "pg_read_file('/etc/passwd')",
        "current_setting('x')",
        "lo_import('/etc/passwd')",
        "dblink('host=h', 'select 1')",
        "id::regclass",
        "'pg_authid'::regclass::text",
        "name::xml",
        "(SELECT 1)",
        "now()",
        "current_timestamp",
        "CAST('now' AS timestamp)",
        "at > ' Today'",
        "repeat(name, 1000000000)",
        "lpad(name, 1000000000)",
        "version()",
        "current_user",
        "xmin",
        "ctid",
        "orders",
        "name ~ '(a+)+$'",
        "nextval('s')",
        "query_to_xml('select 1', true, true, '')",
        "$1",
        "E'\\\\x'",
        "U&'\\0061'",
        "$$a$$",
    ],
)
def test_what_asks_more_than_a_row_is_refused(value: str) -> None:
    with pytest.raises(Failure) as caught:
        print(compiled(f"SELECT id, {value} AS x FROM orders", text("x")))
    assert caught.value.code in (Code.SQL_NOT_ALLOWED, Code.INVALID_VALUE)


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[SqlSource]:
    """A server on the loopback that answers each connection so."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(4096)
                    answer(connection)

    threading.Thread(target=serve, daemon=True).start()
    port = listener.getsockname()[1]
    try:
        yield SqlSource(f"postgresql://reader@localhost:{port}/d?sslmode=disable", "t", "id")
    finally:
        listener.close()


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


HERE = Place(Path("/"), (), "127.0.0.1", True, "secret-word")
WELCOME = message(b"R", struct.pack("!I", 0)) + message(b"Z", b"I")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda connection: None, Code.UNAVAILABLE),
        (lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Code.UNAVAILABLE),
        (lambda connection: connection.sendall(message(b"R", struct.pack("!I", 3))), Code.FAILED_PRECONDITION),
        (lambda connection: connection.sendall(WELCOME), Code.UNAVAILABLE),
    ],
    ids=["ends", "http", "asks-for-the-password-as-it-is", "ends-later"],
)
def test_a_server_that_is_none_is_said_to_be_away_and_is_told_nothing(
    answer: Callable[[socket.socket], None], code: Code
) -> None:
    with server(answer) as source, pytest.raises(Failure) as caught:
        connector(source).preview(HERE, 5)
    assert caught.value.code is code
    assert "secret-word" not in caught.value.detail


class Waiting:
    """A sink of which nothing else is asked."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def wait(self, reason: str) -> None:
        self.reasons.append(reason)


def test_a_run_waits_for_a_server_that_is_away_and_says_so_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MOST", 1.2)
    asked = list[float]()

    def resets(connection: socket.socket) -> None:
        asked.append(0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    rule = SqlRule("SELECT id FROM orders", (RuleColumn("id", "id", ColumnType.INT64),))
    made, waiting = compile_select(rule, SOURCE, TABLE), Waiting()
    with server(resets) as source, pytest.raises(Failure) as caught:
        connector(source).read(HERE, made, {}, waiting, 60.0)  # type: ignore[arg-type]
    assert caught.value.code is Code.UNAVAILABLE
    assert len(asked) >= 3
    assert waiting.reasons[0] == "localhost cannot be reached, or has ended the connection"


def test_the_open_internet_is_reached_with_a_checked_certificate_only() -> None:
    with server(lambda connection: connection.sendall(b"N")) as source, pytest.raises(Failure) as caught:
        connector(source).preview(HERE._replace(trusted=False), 5)
    assert caught.value.code is Code.UNAVAILABLE


def test_a_value_is_written_as_json_has_it() -> None:
    assert postgres.relation(SOURCE) == '"sales"."orders" AS "__rows"'
