"""Limits of a tenant: at which level, what they count, and what they admit."""

import math
import re
from dataclasses import dataclass, replace
from datetime import datetime

from services.kit.errors import Code, Failure, Forbidden, NotFound, invalid, match_etag
from services.kit.resources import changed

KEY, TENANT, ROUTE, MODEL = LEVELS = ("key", "tenant", "route", "model")
REQUESTS, ROWS, BYTES, TOKENS = COUNTS = ("requests", "rows", "bytes", "tokens")
# The route of predictions, over HTTP and gRPC.
PREDICTIONS = "inference.GRPCInferenceService/ModelInfer"
_SLOWEST, _MOST = 0.001, 1e12
_OBJECT = {
    KEY: (re.compile(r"(key|user):[!-~]{0,140}\Z"), "must be as key:abcd1234, or the beginning of it and *"),
    TENANT: (re.compile(r"\Z"), "must be empty: a tenant is one"),
    ROUTE: (re.compile(r"[A-Za-z0-9._/]{1,149}\*?\Z"), "must be as aimass.v1.Jobs/SubmitJob, or aimass.v1.Jobs/*"),
    MODEL: (re.compile(r"[a-z][a-z0-9_-]{0,62}\*?\Z"), "must be the name of a model, or the beginning of it and *"),
}


@dataclass(frozen=True)
class Terms:
    """The terms of a limit: `rate` and `burst` are in the unit that it counts."""

    level: str
    counts: str
    rate: float
    burst: float
    # Empty: in all projects, for everything of the level.
    in_project: str = ""
    object: str = ""


@dataclass(frozen=True)
class Rule:
    """A limit of a tenant; the generation grows with each change."""

    limit: str
    tenant: str
    terms: Terms
    imposed: bool
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None
    generation: int = 1

    def covers(self, project: str, thing: str) -> bool:
        """Whether it is for a thing of its level, asked for in a project."""
        terms = self.terms
        return terms.in_project in ("", project) and matches(terms.object, thing)


def matches(pattern: str, thing: str) -> bool:
    """Whether a pattern, of which the empty one is for all, is for a thing."""
    return pattern in ("", thing) or (pattern.endswith("*") and thing.startswith(pattern[:-1]))


def check(terms: Terms) -> None:
    """Raises invalid_value for what no limit can say."""
    if terms.level not in LEVELS:
        raise invalid("/level", "must be a level")
    if not (math.isfinite(terms.rate) and _SLOWEST <= terms.rate <= _MOST):
        raise invalid("/rate", "must be between 0.001 and 1e12 a second")
    if not (math.isfinite(terms.burst) and 1 <= terms.burst <= _MOST):
        raise invalid("/burst", "must be between 1 and 1e12")
    pattern, rule = _OBJECT[terms.level]
    if terms.object and not pattern.match(terms.object):
        raise invalid("/object", rule)
    if terms.counts in (ROWS, TOKENS) and terms.level == ROUTE and not matches(terms.object, PREDICTIONS):
        rule = f"must be requests or bytes: {terms.counts} are of predictions, which this route has not"
        raise invalid("/counts", rule)


def settled(old: Rule | None, new: Rule, etag: str) -> Rule:
    """The limit after it was set; the old one if it says that already. Raises forbidden, etag_required, _mismatch."""
    if old is None or old.delete_time:
        if etag:
            raise Failure(Code.ETAG_MISMATCH, f"there is no limit {new.limit}, so If-Match cannot match")
        return new if old is None else replace(new, generation=old.generation + 1)
    _may(old, new.imposed)
    if old.terms == new.terms and old.imposed == new.imposed and etag in ("", "*", str(old.generation)):
        return old
    if not etag:
        raise Failure(Code.ETAG_REQUIRED, f"there is a limit {old.limit}: If-Match with its etag is required")
    match_etag(etag, old.generation, old.limit)
    return replace(new, create_time=old.create_time, generation=old.generation + 1)


def deleted(rule: Rule, etag: str, imposing: bool, now: datetime) -> Rule:
    """The limit, deleted; `imposing` is the installation. Raises not_found, forbidden, etag_mismatch."""
    live(rule)
    _may(rule, imposing)
    match_etag(etag, rule.generation, rule.limit)
    return changed(rule, now, delete_time=now)


def live(rule: Rule) -> None:
    """Raises not_found for a limit that is deleted."""
    if rule.delete_time:
        raise NotFound(f"there is no limit {rule.limit}")


def _may(rule: Rule, imposing: bool) -> None:
    if rule.imposed and not imposing:
        raise Forbidden(f"{rule.limit} was set by the installation")
