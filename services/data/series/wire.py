"""Series sets between the domain and the wire."""

from collections.abc import Iterable

from aimass.v1 import series_pb2 as pb
from services.data.series.domain import SeriesSet, SeriesSetVersion
from services.data.series.feature import Feature, Statistic, Template, Window
from services.data.wire import fields_of, plain, schema_to_wire
from services.kit.errors import InvalidValue, Violation
from services.kit.timestamps import to_wire


def features_from_wire(features: Iterable[pb.SeriesFeature]) -> tuple[Feature, ...]:
    """Features, not checked yet. Raises invalid_value for a word that is not known."""
    return tuple(_feature(feature, f"/features/{index}") for index, feature in enumerate(features))


def _feature(feature: pb.SeriesFeature, at: str) -> Feature:
    try:
        fields = plain(feature)
        templates = tuple(Template(template.name, tuple(template.values)) for template in feature.templates)
        words = {"statistic": Statistic(fields["statistic"]), "window": Window(fields["window"])}
        return Feature(**fields | words | {"periods": tuple(feature.periods), "templates": templates})
    except InvalidValue as failure:
        text = f"{at[1:].replace('/', '.')}: {failure.detail}"
        raise InvalidValue(text, [Violation(at, failure.detail)]) from None


def feature_to_wire(feature: Feature) -> pb.SeriesFeature:
    """One feature."""
    templates = [pb.SeriesTemplate(name=template.name, values=template.values) for template in feature.templates]
    return pb.SeriesFeature(**fields_of(feature, pb.SeriesFeature.DESCRIPTOR) | {"templates": templates})


def series_set_to_wire(found: SeriesSet) -> pb.SeriesSet:
    """A series set; its etag is its generation."""
    return pb.SeriesSet(
        series_set=found.series_set,
        description=found.description,
        data_set=found.data_set,
        output_data_set=found.output,
        keys=found.keys,
        time=found.time,
        features=map(feature_to_wire, found.features),
        latest_version=found.latest_version,
        etag=str(found.generation),
        create_time=to_wire(found.create_time),
        update_time=to_wire(found.update_time),
        delete_time=to_wire(found.delete_time),
    )


def version_to_wire(found: SeriesSetVersion) -> pb.SeriesSetVersion:
    """What a run made."""
    return pb.SeriesSetVersion(
        series_set=found.series_set,
        version=found.version,
        data_set=found.data_set,
        data_set_version=found.data_set_version,
        output_data_set=found.output,
        output_version=found.output_version,
        rows=found.rows,
        late=found.late,
        digest=found.digest,
        follows=found.follows,
        keys=[key.name for key in found.keys],
        time=found.time.name,
        features=map(feature_to_wire, found.features),
        inputs=schema_to_wire(found.inputs),
        create_time=to_wire(found.create_time),
    )
