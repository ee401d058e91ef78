"""The events of feature sets."""

from datetime import datetime

from aimass.v1 import data_events_pb2 as pb
from services.data.features.domain import FeatureSet, FeatureSetVersion
from services.data.features.wire import version_to_wire
from services.kit.auth import Scope
from services.kit.bus import Event


def fitted(scope: Scope, feature_set: FeatureSet, version: FeatureSetVersion, now: datetime) -> Event:
    """A feature set has a new version."""
    message = pb.FeatureSetFitted(version=version_to_wire(version), generation=feature_set.generation)
    return Event.of(message, scope, "feature-sets", feature_set.feature_set, "data", now)
