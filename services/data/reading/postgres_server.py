"""One connection to the PostgreSQL server of somebody else: to a checked address, read-only, bounded in time."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from services.data.reading.folders import Place
from services.data.reading.kinds import SqlSource
from services.kit.errors import Code, FailedPrecondition, Failure, InvalidValue, Unavailable

_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
_STATEMENT = 60.0  # seconds that one statement may take
_CONNECT = 10  # seconds
# Read as the text that the server writes: a year 20000 or an infinity is no value of Python's.
_TEXTS = "date timestamp timestamptz time timetz interval numeric uuid json jsonb".split()  # noqa: SIM905
# What libpq says itself, where no code of the server does.
_REFUSED = ("authentication failed", "no password supplied", "authentication method requirement")


@dataclass(frozen=True)
class Server:
    """What a URL names."""

    host: str
    port: int
    user: str
    database: str
    mode: str


def server_of(url: str) -> Server:
    """The parts of `postgresql://user@host:5432/database?sslmode=require`. Raises invalid_value."""
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError:
        raise InvalidValue("the URL cannot be read: write postgresql://user@host:port/database") from None
    if parts.password is not None:
        raise InvalidValue("the URL must not hold a password: set the field password")
    asked = parse_qs(parts.query, keep_blank_values=True)
    mode = asked.pop("sslmode", [""])[0]
    name = unquote(parts.path.removeprefix("/"))
    if not parts.hostname or not parts.username or not name or "/" in name or asked or parts.fragment:
        raise InvalidValue("the URL must be postgresql://user@host:port/database, with ?sslmode= or nothing behind it")
    if mode and mode not in _MODES:
        raise InvalidValue(f"the sslmode must be one of {', '.join(_MODES)}")
    return Server(parts.hostname, port, unquote(parts.username), name, mode)


@contextlib.contextmanager
def opened(place: Place, source: SqlSource, seconds: float, writes: bool = False) -> Iterator[Any]:
    """A connection, read-only unless it `writes`.

    Raises unavailable, failed_precondition with what the server says, limit_exceeded.
    """
    import psycopg
    from psycopg.types.string import TextLoader

    server = server_of(source.url)
    # The open internet is reached by TLS only, and only who has a certificate for the name.
    verified = {"sslmode": "verify-full", "sslrootcert": "system"}
    tls = {"sslmode": server.mode or "prefer"} if place.trusted else verified
    with _named(server, source):
        connection = psycopg.connect(
            host=server.host,
            hostaddr=place.address,
            port=server.port,
            user=server.user,
            dbname=server.database,
            password=place.secret or None,
            passfile="/dev/null",
            connect_timeout=_CONNECT,
            require_auth="scram-sha-256,md5,none",
            gssencmode="disable",
            application_name="aimass",
            tcp_user_timeout="30000",
            autocommit=True,
            **tls,  # type: ignore[arg-type]
        )
        with contextlib.closing(connection):
            for kind in () if writes else _TEXTS:
                connection.adapters.register_loader(kind, TextLoader)
            limit = int(min(seconds, _STATEMENT) * 1000)
            for setting, value in {
                "default_transaction_read_only": "off" if writes else "on",
                "statement_timeout": str(limit),
                "lock_timeout": "5000",
                "search_path": "pg_catalog",
                "TimeZone": "UTC",
                "DateStyle": "ISO, YMD",
                "IntervalStyle": "iso_8601",
                "standard_conforming_strings": "on",
                "client_encoding": "UTF8",
            }.items():
                connection.execute("SELECT set_config(%s, %s, false)", (setting, value))
            yield connection


@contextlib.contextmanager
def _named(server: Server, source: SqlSource) -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.errors.QueryCanceled:
        raise Failure(
            Code.LIMIT_EXCEEDED, "a statement takes too long: index the cursor, or read another table"
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise Unavailable(f"the table {source.table} is locked by somebody else") from None
    except (psycopg.errors.InvalidPassword, psycopg.errors.InvalidAuthorizationSpecification):
        raise FailedPrecondition(f"{server.host} refuses the user {server.user} and the password") from None
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        if any(words in str(error) for words in _REFUSED):
            raise FailedPrecondition(f"{server.host} refuses the user {server.user} and the password") from None
        raise Unavailable(f"{server.host} cannot be reached, or has ended the connection") from None
    except psycopg.Error as error:
        said = error.diag.message_primary or str(error)
        raise InvalidValue(f"{server.host} says: {said[:300]}") from None
