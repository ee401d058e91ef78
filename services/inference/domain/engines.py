"""Which versions an instance has loaded, and which ones releases want it to have."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from services.inference.domain.tensors import Signature


class State(StrEnum):
    """Where a version is on its way into and out of an instance."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADING = "unloading"


class Serving(NamedTuple):
    """How a version wants to be run where a server of its own runs it; 0: as the server likes."""

    # Copies of it, each answering one call at a time.
    instances: int = 0
    # Rows of one call.
    max_batch_rows: int = 0
    # Microseconds that a call may wait for others to join it.
    batch_delay_us: int = 0


class Released(NamedTuple):
    """Enough of a version to load it. The digest is of its model.onnx."""

    version: int
    digest: str
    signature: Signature
    serving: Serving = Serving()


@dataclass(frozen=True)
class Release:
    """What the registry says of a model. `awaited`: a change is under way that waits for the desired version."""

    model: str
    generation: int
    desired: Released | None = None
    serving: Released | None = None
    previous: Released | None = None
    awaited: bool = False
    # Those that have a share of the requests beside the one that serves.
    shared: tuple[Released, ...] = ()

    def must_have(self) -> dict[int, Released]:
        """Versions that have to be loaded, by number."""
        return {version.version: version for version in (self.serving, self.desired) if version}

    def beside(self, keep_previous: bool) -> dict[int, Released]:
        """Versions that are loaded after those, by number; nothing waits for them."""
        first = self.must_have()
        kept = [*(self.shared if first else ()), *([self.previous] if keep_previous and self.previous else ())]
        return {version.version: version for version in kept if version.version not in first}

    def may_have(self, keep_previous: bool) -> set[int]:
        """Numbers of the versions that may stay loaded."""
        return {*self.must_have(), *self.beside(keep_previous)}


@dataclass(frozen=True)
class Engine:
    """A version on this instance, as others see it."""

    instance: str
    model: str
    version: int
    state: State
    reason: str = ""
    ready_time: datetime | None = None
    in_flight: int = 0
