"""A snapshot of a home folder: its databases and files at one moment.

The write locks of all databases are held together for some milliseconds, while a read transaction is opened in each
and the files are listed with their sizes. Files are written once or only grow, so they can be copied later. Thus the
events in the bus agree with the databases that produced and consumed them.
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aimass.failures import Failure

_WAIT = 10.0  # seconds to wait for a writer's transaction
# Recreated at start, of one process only, or copies of pushed records for a child.
_PASSING = ("doors.json", "logs-store/index", "pushed", "trainer.id")
_ASIDE = re.compile(r"logs-store/.*\.new\Z|keys/tenants/[^/]+/\.")
_TAILS = (".lock", "-wal", "-shm", "-journal", ".sock", ".part", ".tmp")


@dataclass
class Snapshot:
    """Open databases by name, and files with their sizes."""

    databases: dict[str, sqlite3.Connection] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)


@contextmanager
def taken(home: Path) -> Iterator[Snapshot]:
    """A snapshot of the folder. Raises Failure if it is no installation, or if a database stays locked."""
    if not home.is_dir():
        raise Failure("not_found", f"there is no installation in {home}")
    snapshot = Snapshot()
    with ExitStack() as held:
        with ExitStack() as locks:
            names = [name for name in _names(home) if name.endswith(".db")]
            for name in names:
                locks.enter_context(_locked(home / name))
            for name in names:
                snapshot.databases[name] = held.enter_context(_opened(home / name))
            sizes = {name: _size(home / name) for name in _names(home) if not name.endswith(".db")}
            # A file that is deleted between listing and stat is not part of the snapshot.
            snapshot.files = {name: size for name, size in sizes.items() if size is not None}
        yield snapshot


def _names(home: Path) -> list[str]:
    """Regular files below the folder. Links are neither followed nor included."""
    found = []
    for folder, folders, files in os.walk(home):
        here = Path(folder).relative_to(home)
        folders[:] = sorted(f for f in folders if not _passes(str(here / f)))
        paths = [here / name for name in sorted(files)]
        found += [str(p) for p in paths if not _passes(str(p)) and not (home / p).is_symlink() and (home / p).is_file()]
    return found


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _passes(name: str) -> bool:
    """Whether a file is left out: recreated at start, temporary, or written aside to replace another."""
    aside = _ASIDE.match(name) is not None
    return aside or name in _PASSING or name.endswith(_TAILS) or "/scratch/" in f"{name}/"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the write lock of a database."""
    with closing(sqlite3.connect(path, timeout=_WAIT, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise Failure("unavailable", f"{path.name} cannot be read: {error}") from None
        yield
        connection.execute("ROLLBACK")


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection in a read transaction."""
    with closing(sqlite3.connect(path, timeout=_WAIT, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield connection
