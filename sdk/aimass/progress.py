"""A progress bar for operations."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

from aimass.v1 import operations_pb2 as pb


class Show:
    """A context that gives a function to draw an operation's progress; None unless `wanted`."""

    def __init__(self, wanted: bool, console: Any = None) -> None:
        self._wanted, self._console, self._bar = wanted, console, None

    def __enter__(self) -> Callable[[pb.Operation], None] | None:
        if not self._wanted:
            return None
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # costs 50 ms

        said = TextColumn("{task.description}", markup=False)  # the text is not ours
        look = (SpinnerColumn(), said, BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        bar: Any = Progress(*look, TimeElapsedColumn(), console=self._console, transient=True)
        self._bar, task = bar, bar.add_task("", total=1.0)
        bar.start()

        def draw(operation: pb.Operation) -> None:
            what = operation.message or operation.stage or operation.method.rsplit("/", 1)[-1]
            bar.update(task, completed=operation.progress, description=f"{operation.resource}: {what}"[:70])

        return draw

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
