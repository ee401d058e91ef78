"""The filters that records are matched with, held in memory: the table is read now and then, not for each record."""

import threading
import time
from collections.abc import Callable, Iterable

from services.kit.auth import Scope

_BELIEVED = 10.0  # seconds that what was read is believed
_COMING = 60.0  # seconds after which a transaction that brings a filter has ended


class Watched:
    """Filters by tenant and project: all that there are, and for some time a few that are no more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._filters: dict[Scope, set[str]] = {}
        self._read = float("-inf")
        self._coming: dict[tuple[Scope, str], float] = {}
        self._lock = threading.Lock()  # transactions run in threads

    def comes(self, scope: Scope, text: str) -> None:
        """A filter counts as there before its transaction ends: one too many finds no subscription and harms nobody."""
        with self._lock:
            self._coming[scope, text] = self.clock()
            self._filters.setdefault(scope, set()).add(text)

    @property
    def old(self) -> bool:
        """Whether they should be read again."""
        return self.clock() - self._read > _BELIEVED

    def read(self, found: Iterable[tuple[Scope, str]], began: float) -> None:
        """What the table had at a moment not before `began`; what was coming since is kept with it."""
        with self._lock:
            for key in [key for key, at in self._coming.items() if at < began - _COMING]:
                del self._coming[key]
            self._filters, self._read = {}, began
            for scope, text in (*found, *self._coming):
                self._filters.setdefault(scope, set()).add(text)

    def filters(self) -> dict[Scope, tuple[str, ...]]:
        """As they are known now."""
        with self._lock:
            return {scope: tuple(texts) for scope, texts in self._filters.items()}
