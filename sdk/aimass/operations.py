"""Handles of operations: wait for the end, show the progress, return the result."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message
from google.protobuf.symbol_database import Default

from aimass.calls import unary
from aimass.exchange import Plan
from aimass.failures import Failure, Violation
from aimass.v1 import operations_pb2 as pb

M = TypeVar("M", bound=Message)
_LOOK, _LONG = 0.5, 25.0  # seconds that one call waits, with a progress bar and without


class _Runs(Protocol):
    def run(self, plan: Plan[Any]) -> Any: ...


def watch(operation: pb.Operation, timeout: float | None, show: Callable[[pb.Operation], None] | None) -> Plan[Any]:
    """The plan that waits until the operation has ended. Raises Failure deadline_exceeded after `timeout` seconds."""
    end = time.monotonic() + timeout if timeout is not None else None
    while True:
        if show:
            show(operation)
        if operation.HasField("end_time"):
            return operation
        if end is not None and time.monotonic() >= end:
            raise Failure(
                "deadline_exceeded", f"{operation.operation} has not ended after {timeout:g} s; it is still running"
            )
        stay = _LOOK if show else _LONG
        stay = min(stay, max(end - time.monotonic(), 0.01)) if end is not None else stay
        operation = yield from unary("operations", "wait_operation", operation=operation.operation, timeout=stay)


def outcome(operation: pb.Operation) -> Message:
    """The result of an ended operation. Raises the Failure that it ended with, or `cancelled`."""
    if operation.state == pb.OPERATION_STATE_FAILED:
        error = operation.error
        violations = [Violation(found.pointer, found.rule) for found in error.violations]
        raise Failure(error.code, error.detail, violations=violations)
    if operation.state == pb.OPERATION_STATE_CANCELLED:
        raise Failure("cancelled", f"{operation.operation} was cancelled")
    name = operation.response.type_url.rsplit("/", 1)[-1]
    message: Message = Default().GetSymbol(name)()
    operation.response.Unpack(message)
    return message


class Show:
    """A context that gives a function to draw an operation's progress; None unless `wanted`."""

    def __init__(self, wanted: bool, console: Any = None) -> None:
        self._wanted, self._console, self._bar = wanted, console, None

    def __enter__(self) -> Callable[[pb.Operation], None] | None:
        if not self._wanted:
            return None
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # costs 50 ms

        bar: Any = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),  # the text is not ours
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
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


class _Handle:
    def __init__(self, client: _Runs, operation: pb.Operation) -> None:
        self._client, self.operation = client, operation

    @property
    def id(self) -> str:
        """The operation's id, for `client.operation(id)`."""
        return self.operation.operation

    @property
    def done(self) -> bool:
        """Whether it had ended when it was last read."""
        return self.operation.HasField("end_time")

    def __repr__(self) -> str:
        state = pb.OperationState.Name(self.operation.state).removeprefix("OPERATION_STATE_").lower()
        return f"<{self.id} {state} {self.operation.progress:.0%}>"


class OperationHandle(_Handle, Generic[M]):
    """An operation: long-running work that was started by a call."""

    def wait(self, timeout: float | None = None, progress: bool = False) -> "OperationHandle[M]":
        """Waits until it has ended, however; `progress` shows a bar on a terminal. Raises deadline_exceeded."""
        with Show(progress) as show:
            self.operation = self._client.run(watch(self.operation, timeout, show))
        return self

    def result(self, timeout: float | None = None, progress: bool = False) -> M:
        """Waits and returns the result. Raises the Failure that it ended with, or `cancelled`."""
        return outcome(self.wait(timeout, progress).operation)  # type: ignore[return-value]

    def refresh(self) -> "OperationHandle[M]":
        """Reads it again."""
        self.operation = self._client.run(unary("operations", "get_operation", operation=self.id))
        return self

    def cancel(self) -> "OperationHandle[M]":
        """Asks it to stop. It may still succeed."""
        self.operation = self._client.run(unary("operations", "cancel_operation", operation=self.id))
        return self


class AsyncOperationHandle(_Handle, Generic[M]):
    """`OperationHandle` for `AsyncClient`."""

    async def wait(self, timeout: float | None = None, progress: bool = False) -> "AsyncOperationHandle[M]":
        """Waits until it has ended, however; `progress` shows a bar on a terminal. Raises deadline_exceeded."""
        with Show(progress) as show:
            self.operation = await self._client.run(watch(self.operation, timeout, show))
        return self

    async def result(self, timeout: float | None = None, progress: bool = False) -> M:
        """Waits and returns the result. Raises the Failure that it ended with, or `cancelled`."""
        return outcome((await self.wait(timeout, progress)).operation)  # type: ignore[return-value]

    async def refresh(self) -> "AsyncOperationHandle[M]":
        """Reads it again."""
        self.operation = await self._client.run(unary("operations", "get_operation", operation=self.id))
        return self

    async def cancel(self) -> "AsyncOperationHandle[M]":
        """Asks it to stop. It may still succeed."""
        self.operation = await self._client.run(unary("operations", "cancel_operation", operation=self.id))
        return self
