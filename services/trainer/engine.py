"""The client of the container engine. All its failures are DockerExceptions, also those of the connection."""

import contextlib
from collections.abc import Iterator
from typing import Any

import docker
from docker.errors import DockerException


class Away(DockerException):
    """The engine was not reached, did not answer in time, or hung up."""


class Engine(docker.APIClient):
    """A client whose calls raise Away when the engine is not reached."""

    def send(self, *arguments: Any, **named: Any) -> Any:
        with reached():
            return super().send(*arguments, **named)


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """Raises Away for the errors of the HTTP client, which are all OSErrors."""
    try:
        yield
    except OSError as error:
        raise Away(str(error) or type(error).__name__) from error


def pieces(stream: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of a stream of the engine. Raises Away when it breaks off."""
    while True:
        with reached():
            piece = next(stream, None)
        if piece is None:
            return
        yield piece
