"""Answers in place of a version that is away: step by step, as its serving settings say; and a counter of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import Counter

from services.gateway.traffic.answers import Answers, Question
from services.gateway.traffic.domain import routing
from services.gateway.traffic.domain.ladder import AWAY, Step
from services.gateway.traffic.domain.routing import Pinned, Route, Version
from services.gateway.traffic.engines import Unloaded
from services.kit.auth import Scope
from services.kit.errors import Failure
from services.kit.telemetry.metrics import REGISTRY
from services.kit.tensors import Tensor

degraded = Counter(
    "aimass_degraded", "Predictions for versions that could not answer, by what did.", ["step"], registry=REGISTRY
)
Routes = Mapping[tuple[Scope, str], Route]


class Substitute(NamedTuple):
    """An answer in place of a version, and the step that gave it."""

    step: Step
    pinned: Pinned
    outputs: list[Tensor]


Ask = Callable[[Pinned], Awaitable[list[Tensor]]]


class Substitutes:
    """The steps."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.share = answers.share

    @staticmethod
    def wanted(pinned: Pinned, error: BaseException) -> bool:
        """Whether a failure of a version may be answered by a substitute."""
        return bool(pinned.version.ladder) and isinstance(error, Failure) and error.code in AWAY

    def keep(self, question: Question, version: Version, outputs: Sequence[Tensor]) -> None:
        """Caches the answer of a version that asks for it."""
        if seconds := version.ladder.cached_seconds:
            self._answers.keep(question, outputs, seconds)

    async def find(self, question: Question, pinned: Pinned, routes: Routes, ask: Ask) -> Substitute | None:
        """The answer of the first step that has one; None, and the request is refused."""
        ladder = pinned.version.ladder
        found = None
        if ladder.cached_seconds and (outputs := await self._answers.find(question)) is not None:
            found = Substitute(Step.CACHED, pinned, outputs)
        if ladder.previous_version and not found:
            before = routing.before(routes.get((question.scope, pinned.model)), pinned)
            found = await _asked(Step.PREVIOUS, before, ask)
        if ladder.smaller_model and not found and not pinned.named:
            smaller = _serving(routes.get((question.scope, ladder.smaller_model)), ladder.smaller_model)
            found = await _asked(Step.SMALLER, smaller, ask)
        degraded.labels(found.step if found else Step.REFUSED).inc()
        return found


async def _asked(step: Step, pinned: Pinned | None, ask: Ask) -> Substitute | None:
    if pinned is None:
        return None
    try:
        return Substitute(step, pinned, await ask(pinned))
    except (Failure, Unloaded):  # it cannot either, or takes other inputs
        return None


def _serving(route: Route | None, model: str) -> Pinned | None:
    try:
        return routing.pin(route, model, "")
    except Failure:
        return None
