"""What takes the records of a source that changes while it is read."""

from collections.abc import Callable, Sequence
from typing import Any


class Pages:
    """A sink that changes the source behind the first page."""

    copies = None

    def __init__(self, change: Callable[[], object]) -> None:
        self.rows, self._change = list[Any](), change

    def take(self, ready: Any, records: Sequence[Any], origins: Sequence[str], fields: Sequence[str]) -> None:
        if not self.rows:
            self._change()
        self.rows += records

    def take_broken(self, *_: Any) -> None: ...

    def take_refused(self, *_: Any) -> None: ...

    def tell(self, *_: Any) -> None: ...

    def wait(self, *_: Any) -> None: ...
