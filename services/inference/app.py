"""How the inference service is put together."""

import os

from aimass.v1.registry_events_pb2 import ReleaseChanged
from services.inference.api import EnginesApi
from services.inference.config import Config
from services.inference.database import open_database, schema
from services.inference.engine import Loader
from services.inference.engine_onnxruntime import OnnxRuntimeLoader
from services.inference.registry import RemoteRegistry
from services.inference.service.catalogue import Catalogue, Surroundings
from services.inference.service.inference import Inference
from services.kit.app import App, Runtime
from services.kit.forgetting import dropping, each
from services.kit.frames_door import FramesDoor
from services.kit.inbox import Listener
from services.kit.outbox import Publisher

_ENGINES = "aimass.v1.Engines"


def build(config: Config, runtime: Runtime) -> App:
    """Composes the service; opens nothing."""
    db = open_database(config.database_url.get_secret_value(), runtime.home, runtime.credentials)
    loader = _loader(config, runtime)
    surroundings = Surroundings(
        runtime.blobs.get, loader, Publisher(db, schema.outbox), runtime.spawn, runtime.now, runtime.instance
    )
    catalogue = Catalogue(surroundings, config.keep_previous, config.unload_seconds)
    inference = Inference(catalogue, RemoteRegistry(runtime), config.resync_seconds)
    api = EnginesApi(inference, runtime.instance)
    frames = _frames(config, runtime, api)
    return App(
        rpc={_ENGINES: api},
        near={"infer": inference.infer, "infer_joined": inference.infer_joined},
        database=db,
        schema=schema,
        listeners=[Listener({ReleaseChanged: api.release_changed}, schema.inbox, broadcast=True)],
        tasks=[loader.watch, inference.follow, catalogue.follow],
        doors=[frames] if frames else [],
        close=[inference.close],
        forget=[dropping(db, schema.metadata), each(catalogue.forget)],
        ready=lambda: inference.ready,
    )


def _frames(config: Config, runtime: Runtime, api: EnginesApi) -> FramesDoor | None:
    """The door of calls of versions beside the one of gRPC; where there is TLS they stay with the latter."""
    host, _, port = config.listen.rpartition(":")
    if not port or runtime.credentials or config.frames_port < 0:
        return None
    local = runtime.directory.local["inference"]
    door = FramesDoor(host, config.frames_port, lambda: local.methods[f"/{_ENGINES}/InferMany"])
    api.frames_port = lambda: door.port
    return door


def _loader(config: Config, runtime: Runtime) -> Loader:
    if not config.engine:
        return OnnxRuntimeLoader(config.threads or os.cpu_count() or 1, config.queue)
    from services.inference.engine_triton import TritonServer
    from services.inference.triton.loading import TritonLoader
    from services.inference.triton.needs import Needs

    # Instances that name the server in other words do not hear each other.
    needs = Needs(runtime.cache, f"triton/{config.engine.partition('://')[2]}", runtime.instance)
    server = TritonServer(config.engine, runtime.credentials, config.engine_http)
    return TritonLoader(server, config.queue, needs)
