"""What the steps hand on to each other, and how they speak."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.message import Message
from rich.console import Console

from aimass import Client, OperationHandle
from examples.flights.company import Company
from examples.flights.installation import Installation

M = TypeVar("M", bound=Message)
T = TypeVar("T")


@dataclass
class Story:
    """One telling. `facts` end up in the table, the summary and the report."""

    console: Console
    installation: Installation
    company: Company
    client: Client
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """A line about what was done."""
        self.console.print(f"   {text}")

    def wait(self, started: OperationHandle[M]) -> M:
        """What comes of long work, with a bar while it runs."""
        return started.result(timeout=300, progress=self.console.is_terminal)

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """A sign of life for what has no progress of its own."""
        with self.console.status(f"   {text}"):
            yield

    @contextmanager
    def step(self, number: int, title: str) -> Iterator[None]:
        """A step of the story, timed."""
        self.console.print(f"[bold]{number:>2}. {title}[/]")
        began = time.monotonic()
        yield
        self.seconds[f"{number}. {title}"] = time.monotonic() - began
        self.console.print(f"   [dim]{self.seconds[f'{number}. {title}']:.1f} s[/]")


class Unexpected(Exception):
    """The story did not go as it should: the text says what was different."""


def expect(condition: bool, text: str) -> None:
    """Ends the story when something is not as it should be. Raises Unexpected."""
    if not condition:
        raise Unexpected(text)


def soon(look: Callable[[], T], seconds: float = 20.0) -> T:
    """The first true answer; the last one when time is over: what others hear of by events takes a moment."""
    end = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.1)
    return found
