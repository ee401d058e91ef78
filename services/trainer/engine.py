"""The container engine's client. What does not reach the engine, or breaks off, is a DockerException like the rest."""

import contextlib
from collections.abc import Iterator
from typing import Any

import docker
from docker.errors import DockerException


class Away(DockerException):
    """The engine was not reached, did not answer in time, or hung up."""


class Engine(docker.APIClient):
    """Every call is bounded in time."""

    def send(self, *arguments: Any, **named: Any) -> Any:
        with reached():
            return super().send(*arguments, **named)


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """For what speaks to the engine: the HTTP client's errors are all OSError. Raises Away."""
    try:
        yield
    except OSError as error:
        raise Away(str(error) or type(error).__name__) from error


def pieces(stream: Iterator[bytes]) -> Iterator[bytes]:
    """What the engine streams. Raises Away when it breaks off."""
    while True:
        with reached():
            piece = next(stream, None)
        if piece is None:
            return
        yield piece
