"""Releases between the domain and the wire."""

from collections.abc import Iterable
from typing import Any

from aimass.v1 import releases_pb2 as pb
from aimass.v1.models_pb2 import ServingSettings, Signature
from services.kit.errors import InvalidValue, Violation
from services.kit.timestamps import to_wire
from services.registry.releases.domain import Release, Released, State
from services.registry.releases.traffic import Rule, Share, Sticky

_BALANCING, _STICKY = "BALANCING_", "STICKY_"

_STATES = {
    State.LOADING: pb.RELEASE_STATE_LOADING,
    State.SERVING: pb.RELEASE_STATE_SERVING,
    State.WITHDRAWN: pb.RELEASE_STATE_WITHDRAWN,
}


def release_to_wire(release: Release) -> pb.Release:
    """A release as callers see it."""
    return pb.Release(
        model=release.model,
        generation=release.generation,
        state=_STATES[release.state],
        desired=_released(release.desired),
        serving=_released(release.serving),
        previous=_released(release.previous),
        reason=release.reason,
        update_time=to_wire(release.update_time),
        etag=release.etag,
        operation=release.operation,
        traffic=traffic_to_wire(release),
        shared=[_known(version) for version in release.shared],
    )


def traffic_to_wire(release: Release) -> pb.Traffic:
    """How requests are shared, as callers see it."""
    traffic = release.traffic
    return pb.Traffic(
        model=release.model,
        rules=[_rule_to_wire(rule) for rule in traffic.rules],
        balancing=pb.Balancing.Value(_BALANCING + (traffic.balancing.upper() or "UNSPECIFIED")),
        update_time=to_wire(traffic.update_time),
        etag=traffic.etag,
    )


def balancing_from_wire(value: pb.Balancing.ValueType) -> str:
    """The way's name; empty for none. Raises invalid_value for what is not known."""
    return _named(pb.Balancing, _BALANCING, value, "/balancing")


def rules_from_wire(rules: Iterable[pb.TrafficRule]) -> list[Rule]:
    """Rules as they were sent. Raises invalid_value for what is not known."""
    return [
        Rule(
            tuple(Share(share.version, share.percent) for share in rule.shares),
            rule.header,
            tuple(rule.values),
            tuple(rule.callers),
            Sticky(_named(pb.Sticky, _STICKY, rule.sticky, f"/rules/{index}/sticky")),
            rule.sticky_header,
        )
        for index, rule in enumerate(rules)
    ]


def _rule_to_wire(rule: Rule) -> pb.TrafficRule:
    return pb.TrafficRule(
        header=rule.header,
        values=rule.values,
        callers=rule.callers,
        shares=[pb.TrafficShare(version=share.version, percent=share.percent) for share in rule.shares],
        sticky=pb.Sticky.Value(_STICKY + (rule.sticky.upper() or "UNSPECIFIED")),
        sticky_header=rule.sticky_header,
    )


def _named(kind: Any, prefix: str, value: int, at: str) -> str:
    """What an enumeration's number is called without its prefix, in small letters; empty for what is not said."""
    if value not in kind.values():
        raise InvalidValue(f"{value} is no {prefix[:-1].lower()}", [Violation(at, "is not known")])
    return str(kind.Name(value)).removeprefix(prefix).lower() if value else ""


def _released(version: Released | None) -> pb.ReleasedVersion | None:
    return _known(version) if version else None


def _known(version: Released) -> pb.ReleasedVersion:
    return pb.ReleasedVersion(
        version=version.version,
        digest=version.digest,
        model_digest=version.model_digest,
        signature=Signature.FromString(version.signature),
        serving=ServingSettings(**version.serving) if version.serving else None,
        labels=version.labels,
    )
