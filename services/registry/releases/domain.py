"""Releases: which version of a model should serve, which does, and every step between. Pure: no I/O, no clock.

A change is under way from `begin` until it is applied or fails, and has an operation as long; there is one at a time.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.kit.errors import Code, FailedPrecondition, Failure, NotFound
from services.registry.releases.traffic import PLAIN, Traffic


class State(StrEnum):
    """What a release is doing."""

    LOADING = "loading"
    SERVING = "serving"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Released:
    """Enough of a version to load and answer with it. The signature is as the contract lays it out; never read here."""

    version: int
    digest: str
    model_digest: str
    signature: bytes
    # How it wants to be run; never read here.
    serving: Mapping[str, Any] = field(default_factory=dict)
    # What it is, for those who decide on it; never read here.
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """The release of a model. The generation grows by 1 with every change."""

    model: str
    generation: int
    state: State
    update_time: datetime
    desired: Released | None = None
    serving: Released | None = None
    previous: Released | None = None
    reason: str = ""
    # Of the change under way; empty when there is none.
    operation: str = ""
    # When the change under way fails.
    deadline: datetime | None = None
    # Gateways that have switched to this generation.
    applied: tuple[str, ...] = ()
    # How requests are shared among versions, and what is known of those.
    traffic: Traffic = PLAIN
    shared: tuple[Released, ...] = ()

    @property
    def etag(self) -> str:
        return str(self.generation)


@dataclass(frozen=True)
class Change:
    """Who changes a release, why, and until when it must be done."""

    operation: str
    reason: str
    now: datetime
    deadline: datetime


@dataclass(frozen=True)
class Participants:
    """The processes that take part in changes: those that live, or their number where discovery does not know."""

    count: int
    living: frozenset[str] | None = None

    def all_of(self, parties: Collection[str]) -> bool:
        """Whether all of them reported. Who has died is not waited for."""
        if self.living:
            return self.living <= set(parties)
        return len(parties) >= self.count


def number(version: Released | None) -> int:
    """Its number, 0 for none."""
    return version.version if version else 0


def found(release: Release | None, model: str) -> Release:
    """Raises not_found when nothing of the model was ever promoted."""
    if release is None:
        raise NotFound(f"there is no release of {model}")
    return release


def begin(release: Release | None, model: str, target: Released | None, etag: str, change: Change) -> Release:
    """The release on its way to `target`, None to withdraw; the same one when it is there already.

    Raises in_progress while another change is under way, etag_mismatch, not_found when there is nothing to withdraw.
    """
    if etag and etag != (release.etag if release else ""):
        raise Failure(Code.ETAG_MISMATCH, f"the release of {model} has changed since")
    if release is None and target is None:
        raise NotFound(f"there is no release of {model}")
    if release and release.operation:
        raise Failure(Code.IN_PROGRESS, f"the release of {model} is being changed", retry_after=1)
    if release and number(release.serving) == number(target):
        return release
    start = release or Release(model, 0, State.WITHDRAWN, change.now)
    return replace(
        start,
        generation=start.generation + 1,
        state=State.LOADING if target else State.WITHDRAWN,
        desired=target,
        reason=change.reason,
        operation=change.operation,
        deadline=change.deadline,
        applied=(),
        update_time=change.now,
    )


def rollback_target(release: Release | None, model: str) -> Released:
    """The version that served before. Raises not_found, failed_precondition."""
    there = found(release, model)
    if there.previous is None:
        raise FailedPrecondition(f"no other version of {model} served before")
    return there.previous


def under_way(release: Release, generation: int) -> bool:
    """Whether that generation is a change that has not ended."""
    return bool(release.operation) and release.generation == generation


def waits_for(release: Release, version: int, generation: int) -> bool:
    """Whether a change that has not ended waits for a version: what instances say of others says nothing of it."""
    return under_way(release, generation) and number(release.desired) == version


def apply(release: Release, gateway: str, generation: int, gateways: Participants, now: datetime) -> Release:
    """The release after a gateway has switched to a generation: done once all of them have.

    What is said of another generation, or twice, changes nothing.
    """
    if not under_way(release, generation) or gateway in release.applied:
        return release
    return settle(replace(release, applied=(*release.applied, gateway)), gateways, now)


def settle(release: Release, gateways: Participants, now: datetime) -> Release:
    """The release after those that were waited for have switched or died; else as it is."""
    if not release.operation or not release.applied or not gateways.all_of(release.applied):
        return release
    return replace(
        release,
        generation=release.generation + 1,
        state=State.SERVING if release.desired else State.WITHDRAWN,
        serving=release.desired,
        previous=_previous(release),
        operation="",
        deadline=None,
        applied=(),
        update_time=now,
    )


def _previous(release: Release) -> Released | None:
    if release.serving and number(release.serving) != number(release.desired):
        return release.serving
    return release.previous if number(release.previous) != number(release.desired) else None


def fail(release: Release, generation: int, reason: str, now: datetime) -> Release:
    """The release back at what serves, when that generation is under way; else as it is."""
    if not under_way(release, generation):
        return release
    return replace(
        release,
        generation=release.generation + 1,
        state=State.SERVING if release.serving else State.WITHDRAWN,
        desired=release.serving,
        reason=reason,
        operation="",
        deadline=None,
        applied=(),
        update_time=now,
    )


def with_traffic(release: Release, traffic: Traffic, versions: Collection[Released], now: datetime) -> Release:
    """The release with another traffic, that names these versions. Raises in_progress while a change is under way."""
    if release.operation:
        raise Failure(Code.IN_PROGRESS, f"the release of {release.model} is being changed", retry_after=1)
    if traffic == release.traffic:
        return release
    shared = tuple(sorted(versions, key=number))
    return replace(release, generation=release.generation + 1, traffic=traffic, shared=shared, update_time=now)


def wanted(release: Release | None) -> frozenset[int]:
    """Numbers of the versions beside the one that serves that must not go: what is about to serve, what is shared."""
    if release is None:
        return frozenset()
    coming = {number(release.desired)} if release.operation and release.desired else set[int]()
    answering = release.serving or release.desired
    return frozenset(coming | ({number(one) for one in release.shared} if answering else set[int]()))


def places(release: Release | None) -> tuple[int, frozenset[int]]:
    """The version that serves, 0 for none, and those that are wanted beside it."""
    return number(release.serving) if release else 0, wanted(release)


def extend(release: Release, deadline: datetime) -> Release:
    """The change under way, if there is one, with more time."""
    return replace(release, deadline=deadline) if release.operation else release
