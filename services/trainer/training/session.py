"""Runs graphs as serving does: in one thread, so that a row gives the same bytes in any batch."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from services.kit import folds, graphs
from services.kit.errors import Failure, Internal, Violation
from services.trainer.training.table import Array

BATCH = 8192


class Session:
    """A loaded graph with one output; the runtime prints warnings if `warn`."""

    def __init__(self, model: bytes, warn: bool = True) -> None:
        self._session = graphs.open_session(model, warn=warn)

    @property
    def inputs(self) -> dict[str, str]:
        """Datatypes of the inputs by name, as the Open Inference Protocol names them."""
        return {spec.name: spec.datatype for spec in graphs.signature(self._session)[0]}

    @property
    def knows_folds(self) -> bool:
        """Whether it gives a row what was learnt from the other folds, when it is told the row's."""
        return any(node.name == folds.INPUT for node in self._session.get_overridable_initializers())

    def run(self, feeds: Mapping[str, Array], size: int = BATCH) -> Array:
        """The output [rows, ...], computed in batches of `size` rows."""
        rows = len(next(iter(feeds.values())))
        parts = [self._batch(feeds, start, size) for start in range(0, max(rows, 1), size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _batch(self, feeds: Mapping[str, Array], start: int, size: int) -> Array:
        found: Array = self._session.run(None, {name: values[start : start + size] for name, values in feeds.items()})[
            0
        ]
        return found


def batch_invariant(session: Session, feeds: Mapping[str, Array]) -> bool:
    """Whether up to 1,000 rows give the same bytes alone and in batches of each size that serving is checked with."""
    first = {name: values[: max(graphs.BATCHES)] for name, values in feeds.items()}
    alone = session.run(first, 1).tobytes()
    return all(session.run(first, size).tobytes() == alone for size in graphs.BATCHES[1:])


@contextmanager
def no_warnings() -> Iterator[None]:
    """Raises internal if anything is written to standard error: a model of which the runtime warns is not sound."""
    with tempfile.TemporaryFile() as printed:
        kept = os.dup(2)
        os.dup2(printed.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        printed.seek(0)
        if text := printed.read(2000).decode(errors="replace").strip():
            raise _unsound(text)


def _unsound(text: str) -> Failure:
    return Internal("the packaged model makes the runtime complain", [Violation("", text)])
