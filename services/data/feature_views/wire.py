"""Feature views between the domain and the wire."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from aimass.v1 import feature_views_pb2 as pb
from services.data.feature_views.domain import Definition, FeatureView, Found, Lag, Progress, Run, State, ViewVersion
from services.data.wire import schema_to_wire
from services.kit.timestamps import to_wire

_MILLION = 10**6
_STATES = {state: pb.FeatureRowState.Value(f"FEATURE_ROW_STATE_{state.name}") for state in State}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def definition_from_wire(made: pb.FeatureViewDefinition) -> Definition:
    """A definition, not checked yet."""
    life = made.time_to_live
    return Definition(
        data_set=made.data_set,
        keys=tuple(made.keys),
        event_time=made.event_time,
        features=tuple(made.features),
        seconds_to_live=life.seconds + life.nanos / 1e9 if made.HasField("time_to_live") else None,
        feature_set=made.feature_set,
        feature_set_version=made.feature_set_version,
    )


def microseconds(at: Timestamp) -> int:
    """Microseconds since 1970."""
    return at.seconds * _MILLION + at.nanos // 1000


def microseconds_of(at: datetime) -> int:
    """The same of a time."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def _duration(micros: int) -> Duration:
    return Duration(seconds=micros // _MILLION, nanos=micros % _MILLION * 1000)


def _since(at: datetime, now: datetime) -> Duration:
    return _duration(max(0, (now - at) // timedelta(microseconds=1)))


def view_to_wire(view: FeatureView) -> pb.FeatureView:
    """A view with its etag."""
    return pb.FeatureView(
        feature_view=view.feature_view,
        description=view.description,
        latest_version=view.latest_version,
        serving_version=view.serving_version,
        etag=str(view.generation),
        create_time=to_wire(view.create_time),
        update_time=to_wire(view.update_time),
        delete_time=to_wire(view.delete_time),
    )


def version_to_wire(version: ViewVersion, lag: Lag | None = None, now: datetime | None = None) -> pb.FeatureViewVersion:
    """A version; with a lag and the time, as it stands then."""
    made, life = version.definition, version.definition.seconds_to_live
    definition = pb.FeatureViewDefinition(
        data_set=made.data_set,
        keys=made.keys,
        event_time=made.event_time,
        features=made.features,
        feature_set=made.feature_set,
        feature_set_version=made.feature_set_version,
    )
    if life:
        definition.time_to_live.CopyFrom(_duration(round(life * _MILLION)))
    found = pb.FeatureViewVersion(
        feature_view=version.feature_view,
        version=version.version,
        definition=definition,
        keys=schema_to_wire(version.keys),
        features=schema_to_wire(version.features),
        create_time=to_wire(version.create_time),
        data_set_version=version.coverage.data_set_version,
        materialise_time=to_wire(version.coverage.materialise_time),
        newest_event_time=to_wire(version.coverage.newest_event_time),
    )
    if now and version.coverage.newest_event_time:
        found.age.CopyFrom(_since(version.coverage.newest_event_time, now))
    if now and lag:
        found.versions_behind = lag.versions
        found.lag.CopyFrom(_since(lag.since, now) if lag.since else Duration())
    return found


def materialisation_to_wire(run: Run, progress: Progress) -> pb.Materialisation:
    """What a run came to."""
    return pb.Materialisation(
        feature_view=run.feature_view,
        version=run.version,
        data_set_version=run.data_set_version,
        rows=progress.rows,
        rows_without_key=progress.rows_without_key,
        future_rows=progress.future_rows,
        rows_out_of_range=progress.rows_out_of_range,
    )


def keys_from_wire(keys: Iterable[pb.FeatureKey]) -> list[list[Any]]:
    """Values of JSON; lists and objects are None, as nothing is."""
    return [[_value(value) for value in key.values] for key in keys]


def _value(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    return getattr(value, kind) if kind in ("string_value", "number_value", "bool_value") else None


def rows_to_wire(version: int, features: Sequence[str], found: Sequence[Found]) -> pb.ReadFeaturesResponse:
    """The answer to a read."""
    answer = pb.ReadFeaturesResponse(version=version, features=features)
    for one in found:
        made = answer.rows.add(state=_STATES[one.state])
        if one.state is State.MISSING:
            continue
        made.event_time.seconds, micros = divmod(one.event_time, _MILLION)
        made.event_time.nanos = micros * 1000
        made.age.seconds, micros = divmod(one.age, _MILLION)
        made.age.nanos = micros * 1000
        add = made.values.add
        for value in one.values:
            if value is None:
                add(null_value=0)
            elif isinstance(value, bool):
                add(bool_value=value)
            elif isinstance(value, str):
                add(string_value=value)
            else:
                add(number_value=value)
    return answer
