"""Which version of a model answers: what the registry wants, and what inference instances have loaded.

A `Route` is never changed, only replaced, so a request that was pinned on one keeps what it saw.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from services.gateway.traffic.domain.ladder import NO_LADDER, Ladder
from services.gateway.traffic.domain.sharing import Caller, Rule, choose
from services.gateway.traffic.domain.tensors import Signature
from services.kit.errors import NotFound, Unavailable

_RETRY = 1.0  # seconds until it makes sense to ask again for a version that is being loaded


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model: its number, the digest of its manifest, what it takes and gives, what it is."""

    number: int
    digest: str
    signature: Signature
    labels: Mapping[str, str] = field(default_factory=dict)
    ladder: Ladder = NO_LADDER
    # How answers name it: 3;digest=sha256:...
    label: str = field(init=False, compare=False)
    # Whether others may answer for it.
    replaceable: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # Each prediction asks.
        object.__setattr__(self, "label", f"{self.number};digest={self.digest}")
        object.__setattr__(self, "replaceable", bool(self.ladder))


@dataclass(frozen=True, slots=True)
class Release:
    """What the registry says of a model. `awaited`: a change is under way that waits for gateways to apply it."""

    model: str
    generation: int
    desired: Version | None = None
    serving: Version | None = None
    previous: Version | None = None
    awaited: bool = False
    # How requests that name no version are shared, and among which versions beside the one that serves.
    rules: tuple[Rule, ...] = ()
    shared: tuple[Version, ...] = ()
    # How instances are chosen; empty: as for other calls.
    balancing: str = ""

    @property
    def versions(self) -> dict[int, Version]:
        """Every version it names, by number."""
        return {v.number: v for v in (*self.shared, self.previous, self.serving, self.desired) if v}


@dataclass(frozen=True, slots=True)
class Route:
    """One model's part of the table."""

    release: Release | None = None
    # What answers requests that name no version.
    answering: Version | None = None
    # The last generation that the registry was told is applied here.
    reported: int = 0
    # The instances that the desired version waits for, beside the first one that has it.
    wanted: frozenset[str] = frozenset()
    # The instances that have a version loaded, by number.
    ready: Mapping[int, frozenset[str]] = field(default_factory=dict)
    # What is known of versions, by number.
    known: Mapping[int, Version] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A request's version, settled when it was admitted."""

    model: str
    version: Version
    # The caller named the version, so no other may answer.
    named: bool
    # No instance has it loaded, only others may answer for it.
    away: bool = False
    # Rules may give the request to another version: `share` says which.
    shared: bool = False


def hear(route: Route, release: Release, instances: frozenset[str] = frozenset()) -> Route:
    """The route after a release has changed; an older generation changes nothing.

    `instances` are those that are expected to load what is new in it.
    """
    if route.release and release.generation < route.release.generation:
        return route
    known = {n: v for n, v in route.known.items() if route.ready.get(n)} | release.versions
    if route.release:
        wanted = instances if release.generation > route.release.generation else route.wanted
        return _settle(replace(route, release=release, known=known, wanted=wanted))
    # The first release after a start: the serving version answers, and only a change under way is reported.
    same = release.serving == release.desired and not release.awaited
    reported = release.generation if same else 0
    first = replace(route, release=release, known=known, answering=release.serving, reported=reported)
    return _settle(replace(first, wanted=instances))


def load(route: Route, version: int, instance: str, ready: bool) -> Route:
    """The route after an instance has loaded or let go of a version."""
    instances = route.ready.get(version, frozenset()) - {instance} | ({instance} if ready else frozenset())
    others = lose(route, version)
    return _settle(replace(others, ready={**others.ready, version: instances})) if instances else others


def fail(route: Route, version: int, instance: str) -> Route:
    """The route after an instance could not load a version: it is no longer waited for."""
    gone = load(route, version, instance, False)
    desired = gone.release.desired if gone.release else None
    if desired is None or desired.number != version:
        return gone
    return _settle(replace(gone, wanted=gone.wanted - {instance}))


def leave(route: Route, instances: frozenset[str]) -> Route:
    """The route after instances have gone, with all that they had loaded."""
    ready = {number: where - instances for number, where in route.ready.items()}
    kept = {number: where for number, where in ready.items() if where}
    return _settle(replace(route, ready=kept, wanted=route.wanted - instances))


def late(route: Route) -> bool:
    """Whether the desired version is loaded somewhere and waits for more instances."""
    desired = route.release.desired if route.release else None
    return bool(desired and route.answering != desired and route.ready.get(desired.number))


def hurry(route: Route) -> Route:
    """The route after those that have not loaded the desired version were waited for long enough."""
    return _settle(replace(route, wanted=frozenset()))


def lose(route: Route, version: int) -> Route:
    """The route after a version turned out to be loaded nowhere."""
    return replace(route, ready={number: where for number, where in route.ready.items() if number != version})


def report(route: Route, generation: int) -> Route:
    """The route after the registry was told of a generation."""
    return replace(route, reported=max(route.reported, generation))


def _settle(route: Route) -> Route:
    """Switches to the desired version once the instances have it; until then the old one goes on answering."""
    desired = route.release.desired if route.release else None
    if route.release and (desired is None or _loaded(route, desired.number)):
        return replace(route, answering=desired)
    return route


def _loaded(route: Route, number: int) -> bool:
    there = route.ready.get(number)
    return bool(there) and route.wanted <= (there or frozenset())


def unreported(route: Route) -> int:
    """The generation that is applied and not yet reported; 0: none."""
    release = route.release
    if release is None or route.answering != release.desired or route.reported >= release.generation:
        return 0
    waits = release.desired is not None and not route.ready.get(release.desired.number)
    return 0 if waits else release.generation


def pin(route: Route | None, model: str, text: str, instead: bool = False) -> Pinned:
    """The version that answers a request. Raises not_found, or unavailable for one that is still being loaded.

    `instead`: one that is not loaded is `away` if it has substitutes, or shares its traffic.
    """
    if route is None or route.release is None:
        raise NotFound(f"there is no model {model}")
    version = _named(route, model, text) if text else _released(route, model)
    shared = bool(route.release.rules) and not text
    if not route.ready.get(version.number):
        if instead and (version.ladder or shared):
            return Pinned(model, version, bool(text), away=True, shared=shared)
        raise absent(model, version)
    return Pinned(model, version, bool(text), shared=shared)


def share(route: Route, pinned: Pinned, caller: Caller, turn: Callable[[int], float]) -> Pinned:
    """The version that rules give a request which named none: one that is loaded, or else what serves."""
    number = choose(route.release.rules, pinned.model, caller, turn) if route.release else 0
    version = route.known.get(number)
    if version is None or number == pinned.version.number or not route.ready.get(number):
        return pinned
    return Pinned(pinned.model, version, False)


def absent(model: str, version: Version) -> Unavailable:
    """The failure for a version that no instance has loaded."""
    return Unavailable(f"{model} version {version.number} is being loaded", retry_after=_RETRY)


def before(route: Route | None, pinned: Pinned) -> Pinned | None:
    """The version that served before a pinned one, if it is loaded and no version was named."""
    version = route.release.previous if route and route.release else None
    if version is None or pinned.named or version.number == pinned.version.number:
        return None
    return Pinned(pinned.model, version, False) if route and route.ready.get(version.number) else None


def _named(route: Route, model: str, text: str) -> Version:
    number = int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else 0
    version = route.known.get(number)
    answers = route.answering is not None and route.answering.number == number  # so it comes back
    if version is None or not (answers or route.ready.get(number)):
        raise NotFound(f"{model} has no version {text[:64]} that is loaded")
    return version


def _released(route: Route, model: str) -> Version:
    desired = route.release.desired if route.release else None
    if route.answering:
        return route.answering
    if desired:
        raise Unavailable(f"{model} version {desired.number} is being loaded", retry_after=_RETRY)
    raise NotFound(f"{model} has no version that serves")
