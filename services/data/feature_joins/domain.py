"""What a join of features means: rows with times, views, and the columns that come of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.data.feature_views.domain import TIMES, Graph, ViewVersion
from services.data.schema import Column, check_columns
from services.kit.errors import Violation, invalid, refuse


@dataclass(frozen=True)
class Wanted:
    """A view as it is asked for; empty and 0 stand for what the contract says."""

    feature_view: str
    version: int = 0
    keys: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    prefix: str = ""
    data_set_version: int = 0


@dataclass(frozen=True)
class JoinedView:
    """A view of a join: `keys` are columns of the rows, `names` what its features are called in the output."""

    feature_view: str
    version: int
    data_set: str
    data_set_version: int
    keys: tuple[str, ...]
    view_keys: tuple[Column, ...]
    event_time: str
    features: tuple[Column, ...]
    names: tuple[str, ...]
    seconds_to_live: float | None
    feature_set: tuple[str, int] | None = None
    graph: Graph | None = None


@dataclass(frozen=True)
class Join:
    """A join under way, with everything that it needs: it goes on after a crash from this alone."""

    operation: str
    output: str
    data_set: str
    data_set_version: int
    columns: tuple[Column, ...]
    event_time: str
    views: tuple[JoinedView, ...]
    create_time: datetime

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The columns of the output: those of the rows, then the features."""
        each = (
            Column(name, feature.type)
            for view in self.views
            for name, feature in zip(view.names, view.features, strict=True)
        )
        return (*self.columns, *each)


def check_time(event_time: str, columns: Sequence[Column], data_set: str) -> None:
    """Raises invalid_value when the rows have no such time."""
    if not any(column.name == event_time and column.type in TIMES for column in columns):
        raise invalid("/event_time", f"must be a column of times or dates of {data_set}; {event_time} is not")


def joined(wanted: Wanted, found: ViewVersion, number: int, columns: Sequence[Column], at: str) -> JoinedView:
    """A view of a join with a version of its data set. Raises invalid_value."""
    known = {column.name: column for column in columns}
    keys = wanted.keys or tuple(column.name for column in found.keys)
    features = {column.name: column for column in found.features}
    refuse(_violations(wanted, found, keys, known, features, at))
    chosen = tuple(features[name] for name in wanted.features or features)
    return JoinedView(
        feature_view=wanted.feature_view,
        version=found.version,
        data_set=found.definition.data_set,
        data_set_version=number,
        keys=keys,
        view_keys=found.keys,
        event_time=found.definition.event_time,
        features=chosen,
        names=tuple(wanted.prefix + column.name for column in chosen),
        seconds_to_live=found.definition.seconds_to_live,
        feature_set=(found.definition.feature_set, found.definition.feature_set_version) if found.graph else None,
        graph=found.graph,
    )


def _violations(
    wanted: Wanted,
    found: ViewVersion,
    keys: Sequence[str],
    known: Mapping[str, Column],
    features: Mapping[str, Column],
    at: str,
) -> Iterator[Violation]:
    if len(keys) != len(found.keys):
        yield Violation(f"{at}/keys", f"must have {len(found.keys)} columns, as the view has keys")
        return
    for index, (name, key) in enumerate(zip(keys, found.keys, strict=True)):
        if name not in known or known[name].type is not key.type:
            yield Violation(f"{at}/keys/{index}", f"must be a column of the type {key.type}; {name} is not")
    for index, name in enumerate(wanted.features):
        if name not in features:
            yield Violation(f"{at}/features/{index}", f"must be a feature of the view; {name} is not")


def check_output(join: Join) -> None:
    """Raises invalid_value for names that are there twice, and for an output that is read as well."""
    check_columns(join.outputs)
    if join.output in (join.data_set, *(view.data_set for view in join.views)):
        raise invalid("/output", "must be no data set that is read")
