"""A cache of the filters that records are matched with: the table is not read for each batch of records."""

import threading
import time
from collections.abc import Callable, Iterable

from services.kit.auth import Scope

_FRESH = 10.0  # seconds until the table is read again
_COMING = 60.0  # seconds after which a transaction that writes a filter has ended


class Watched:
    """Filters by scope: all present ones, and for some time deleted ones."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._filters: dict[Scope, set[str]] = {}
        self._read = float("-inf")
        self._coming: dict[tuple[Scope, str], float] = {}
        self._lock = threading.Lock()  # transactions run in threads

    def comes(self, scope: Scope, text: str) -> None:
        """Adds a filter before its transaction commits; one too many does no harm, as it finds no subscription."""
        with self._lock:
            self._coming[scope, text] = self.clock()
            self._filters.setdefault(scope, set()).add(text)

    @property
    def old(self) -> bool:
        """Whether the table should be read again."""
        return self.clock() - self._read > _FRESH

    def read(self, found: Iterable[tuple[Scope, str]], began: float) -> None:
        """Replaces the filters by those that were read after `began`, and those that `comes` has added lately."""
        with self._lock:
            for key in [key for key, at in self._coming.items() if at < began - _COMING]:
                del self._coming[key]
            self._filters, self._read = {}, began
            for scope, text in (*found, *self._coming):
                self._filters.setdefault(scope, set()).add(text)

    def filters(self) -> dict[Scope, tuple[str, ...]]:
        """All filters by scope."""
        with self._lock:
            return {scope: tuple(texts) for scope, texts in self._filters.items()}
