"""How the registry is put together."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

from aimass.v1 import artifacts_pb2, models_pb2, releases_pb2  # noqa: F401 - their descriptors are what is served
from aimass.v1.gateway_events_pb2 import ReleaseApplied
from aimass.v1.inference_events_pb2 import EngineChanged
from aimass.v1.trainer_events_pb2 import TrainingSucceeded
from services.kit.app import App, Runtime
from services.kit.forgetting import dropping
from services.kit.inbox import Listener
from services.kit.process import Limits
from services.kit.tasks import every_hour
from services.kit.uploads import collect_for_ever
from services.registry.artifacts.api import ArtifactsApi
from services.registry.artifacts.service import Artifacts
from services.registry.artifacts.store import Store as ArtifactStore
from services.registry.config import Config
from services.registry.database import open_database, schema
from services.registry.models.api import ModelsApi
from services.registry.models.service import Models
from services.registry.models.store import Store as ModelStore
from services.registry.releases import events
from services.registry.releases.api import ReleasesApi
from services.registry.releases.domain import Participants
from services.registry.releases.handshake import Handshake
from services.registry.releases.service import Releases
from services.registry.releases.store import Messages
from services.registry.releases.store import Store as ReleaseStore
from services.registry.releases.wire import release_to_wire


def build(config: Config, runtime: Runtime) -> App:
    """Composes the service; opens nothing."""
    db, now = open_database(config.database_url.get_secret_value(), runtime.home, runtime.credentials), runtime.now
    artifacts = Artifacts(ArtifactStore(db), runtime.blobs, runtime.uploads, now)
    limits = Limits(config.inspect_seconds, config.inspect_memory_mib)
    models = Models(ModelStore(db), artifacts, limits, config.model_mib * 2**20, now)
    messages = Messages(lambda scope, release: events.changed(scope, release, now()), release_to_wire)
    patience = timedelta(seconds=config.change_seconds)
    change = (ReleaseStore(db, messages), models, patience)
    releases, handshake = Releases(*change, now), Handshake(*change, *_participants(config, runtime), now)
    models_api, releases_api = ModelsApi(models), ReleasesApi(releases, handshake)
    # Not added: a service that is built again in one process has one such hook, not one per build.
    schema.operations.on_cancel[:] = [handshake.cancelled]
    return App(
        rpc={
            "aimass.v1.Artifacts": ArtifactsApi(artifacts),
            "aimass.v1.Models": models_api,
            "aimass.v1.Releases": releases_api,
        },
        database=db,
        schema=schema,
        listeners=[
            Listener({TrainingSucceeded: models_api.training_succeeded}, schema.inbox),
            Listener(
                {EngineChanged: releases_api.engine_changed, ReleaseApplied: releases_api.release_applied},
                schema.inbox,
            ),
        ],
        start=[handshake.resume],
        tasks=[
            handshake.watch,
            partial(every_hour, artifacts.measure, now),
            partial(collect_for_ever, runtime.uploads),
            *_renewing(runtime),
        ],
        forget=[dropping(db, schema.metadata)],
    )


def _renewing(runtime: Runtime) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """What wraps the keys of blobs anew when the installation's key has changed."""
    return [runtime.storage.keys.renew] if runtime.storage.keys else []


def _participants(config: Config, runtime: Runtime) -> tuple[Callable[[], Participants], Callable[[], Participants]]:
    """The gateways and the inference instances of the installation, as they are whenever it is asked."""
    directory = runtime.directory

    def engines() -> Participants:
        return Participants(max(len(directory.instances("inference")), 1), directory.living("inference"))

    return lambda: Participants(config.gateways, directory.living("gateway")), engines
