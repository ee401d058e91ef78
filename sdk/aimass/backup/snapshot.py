"""One moment of a home folder: what its databases held and what its files were.

All databases are stopped from being written at once, for some milliseconds: their write locks are taken together, a
read snapshot is opened in each, and the files are listed with their sizes. Files are written once or only grow, so what
was listed can be copied later. Events then agree with what produced and consumed them.
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aimass.failures import Failure

_WAIT = 10.0  # seconds for a writer to end its transaction
# Made anew at a start, or of one process only.
_PASSING = ("doors.json", "logs-store/index", "trainer.id")
_ASIDE = re.compile(r"logs-store/.*\.new\Z|keys/tenants/[^/]+/\.")
_TAILS = (".lock", "-wal", "-shm", "-journal", ".sock", ".part", ".tmp")


@dataclass
class Snapshot:
    """A moment: open databases by name, and the files with the sizes they had."""

    databases: dict[str, sqlite3.Connection] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)


@contextmanager
def taken(home: Path) -> Iterator[Snapshot]:
    """The folder as it is now. Raises Failure when it is none, or when a database stays locked."""
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
            # What goes away between the two looks was not there any more.
            snapshot.files = {name: size for name, size in sizes.items() if size is not None}
        yield snapshot


def _names(home: Path) -> list[str]:
    """Regular files below the folder; links are not followed and not taken."""
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
    """Whether it is of no moment: made anew, on its way, or written aside to take the place of another."""
    aside = _ASIDE.match(name) is not None
    return aside or name in _PASSING or name.endswith(_TAILS) or "/scratch/" in f"{name}/"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody writes this database meanwhile."""
    with closing(sqlite3.connect(path, timeout=_WAIT, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise Failure("unavailable", f"{path.name} cannot be read: {error}") from None
        yield
        connection.execute("ROLLBACK")


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A read transaction: what this connection sees does not change any more."""
    with closing(sqlite3.connect(path, timeout=_WAIT, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield connection
