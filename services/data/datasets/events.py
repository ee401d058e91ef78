"""The events of data sets."""

from aimass.v1 import data_events_pb2
from services.data.datasets.domain import DataSet, DataSetVersion
from services.data.datasets.masking import hidden_of, veiled
from services.data.datasets.wire import version_to_wire
from services.kit.auth import Scope
from services.kit.bus import Event


def version_added(scope: Scope, data_set: DataSet, version: DataSetVersion) -> Event:
    """A data set has a new version."""
    # Who hears of it is not known: nobody is told values of masked columns.
    seen = veiled(version, hidden_of(data_set.masked_columns))
    message = data_events_pb2.DataSetVersionAdded(
        version=version_to_wire(seen, shorten=True), generation=data_set.generation
    )
    message.branch_of = data_set.branch_of
    return Event.of(message, scope, "data_set", data_set.data_set, "data", version.create_time)
