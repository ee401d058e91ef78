"""What a version of a feature view can be made of, and whether a version of its data set still fits."""

from collections.abc import Iterator, Mapping, Sequence

from services.data.feature_views.domain import KEYS, TIMES, Definition, Graph, ViewVersion
from services.data.schema import Column, ColumnType, check_columns
from services.kit.errors import FailedPrecondition, Violation, refuse

MOST_FEATURES = 500
SHORTEST, LONGEST = 0.001, 315_576_000_000  # seconds that a row may live


def columns_for(
    definition: Definition, columns: Sequence[Column], graph: Graph | None = None
) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """The columns of the keys and of the features. Raises invalid_value."""
    known = {column.name: column for column in columns}
    outputs = {name: Column(name, ColumnType.DOUBLE) for name in graph.outputs} if graph else {}
    refuse([*_violations(definition, known, outputs if graph else known), *_of_graph(definition, known, graph)])
    features = tuple((outputs or known)[name] for name in definition.features or outputs)
    check_columns(features)
    return tuple(known[name] for name in definition.keys), features


def _of_graph(definition: Definition, known: Mapping[str, Column], graph: Graph | None) -> Iterator[Violation]:
    at, name, features = "/definition", definition.feature_set, definition.features
    if not graph:
        if not features:
            yield Violation(f"{at}/features", "must not be empty")
        if definition.feature_set_version:
            yield Violation(f"{at}/feature_set_version", "must be of a feature_set")
        return
    for column in graph.inputs:
        if column.name not in known or known[column.name].type is not column.type:
            rule = f"{name} takes the column {column.name} ({column.type}), which {definition.data_set} does not have"
            yield Violation(f"{at}/feature_set", rule)
    if len(features or graph.outputs) > MOST_FEATURES:
        rule = f"must name at most {MOST_FEATURES} of the {len(graph.outputs)} outputs of {name}"
        yield Violation(f"{at}/features", rule)
    for index, key in enumerate(definition.keys):
        if key.lower() in {each.lower() for each in features or graph.outputs}:
            yield Violation(f"{at}/keys/{index}", f"must not be called as a feature is; {key} is an output of {name}")


def _violations(
    definition: Definition, known: Mapping[str, Column], features: Mapping[str, Column]
) -> Iterator[Violation]:
    at = "/definition"
    of = f"an output of {definition.feature_set}" if definition.feature_set else f"a column of {definition.data_set}"
    for part, there, what in (("keys", known, f"a column of {definition.data_set}"), ("features", features, of)):
        names = getattr(definition, part)
        for index, name in enumerate(names):
            if name not in there:
                yield Violation(f"{at}/{part}/{index}", f"must be {what}; {name} is not")
            elif name in names[:index]:
                yield Violation(f"{at}/{part}/{index}", "is there twice")
            elif part == "keys" and known[name].type not in KEYS:
                rule = f"must be a text, an integer, a date or a boolean; {name} is a {known[name].type}"
                yield Violation(f"{at}/keys/{index}", rule)
    time = known.get(definition.event_time)
    if time is None or time.type not in TIMES:
        yield Violation(f"{at}/event_time", f"must be a column of times or dates; {definition.event_time} is not")
    life = definition.seconds_to_live
    if life is not None and not SHORTEST <= life <= LONGEST:
        yield Violation(f"{at}/time_to_live", f"must be {SHORTEST} to {LONGEST:,} seconds")


def check_fit(version: ViewVersion, columns: Sequence[Column]) -> None:
    """Raises failed_precondition when a column that a view was made with is gone or has another type."""
    known = {column.name: column.type for column in columns}
    for column in (*version.keys, *(version.graph.inputs if version.graph else version.features)):
        if known.get(column.name) is not column.type:
            now = known.get(column.name, "gone")
            raise FailedPrecondition(
                f"the column {column.name} of {version.definition.data_set} was a {column.type} when version "
                f"{version.version} of {version.feature_view} was made, and is {now}: make the next version"
            )
    if known.get(version.definition.event_time) not in TIMES:
        raise FailedPrecondition(f"{version.definition.event_time} is no column of times any more")
