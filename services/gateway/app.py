"""How the gateway is put together."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from google.protobuf.message import Message

from services.gateway.access.app import AccessSlice
from services.gateway.access.installation import Given
from services.gateway.access.service import AccessService
from services.gateway.access_log import AccessLog
from services.gateway.admission import Admission
from services.gateway.api import inspection, oip_messages
from services.gateway.api.forward import Forward
from services.gateway.api.health import Health
from services.gateway.api.logins import PATH as LOGINS
from services.gateway.api.logins import Logins
from services.gateway.api.oip_grpc import OipGrpc
from services.gateway.api.oip_rest import OipRest
from services.gateway.calls import Calls
from services.gateway.certificate import Certificate
from services.gateway.config import Config
from services.gateway.database import open_database, schema
from services.gateway.doors import Doors, GrpcDoor, HttpDoor
from services.gateway.edge import Asgi, Edge
from services.gateway.lazy import LazyApp
from services.gateway.ledger.app import LedgerSlice
from services.gateway.ledger.spending import Spending
from services.gateway.limiting.app import LimitsSlice
from services.gateway.limiting.domain import PREDICTIONS
from services.gateway.limits import Buckets, Limit, Limiter
from services.gateway.limits_shared import SharedBuckets
from services.gateway.policies.app import PolicySlice
from services.gateway.privacy.app import PrivacySlice
from services.gateway.privacy.cleaner import Cleaner
from services.gateway.receipts import Receipts
from services.gateway.repeats import Repeats
from services.gateway.retries import Retries
from services.gateway.screening import Screen
from services.gateway.signatures import Signatures
from services.gateway.traffic.answers import Answers
from services.gateway.traffic.api import TrafficApi
from services.gateway.traffic.coalescing import Coalescer
from services.gateway.traffic.engines import Inference, RemoteEngines
from services.gateway.traffic.instances import Instances
from services.gateway.traffic.service import Guard, Traffic
from services.gateway.traffic.substitutes import Substitutes
from services.kit import telemetry
from services.kit.app import App, Runtime
from services.kit.config import ConfigError
from services.kit.db import Database
from services.kit.forgetting import dropping
from services.kit.inbox import Handler, Listener
from services.kit.outbox import Publisher

if TYPE_CHECKING:
    from services.gateway.issuers.bearers import Bearers

# Tables that keep their rows when the keys of a tenant are destroyed: its name, its access rules, and its bills.
_KEPT = ("tenant", "api_key", "role", "binding", "policy_version", "policy_active", "rate_rule")
_OWED = ("quota", "quota_balance", "ledger", "price_list")
Tasks = list[Callable[[], Coroutine[Any, Any, None]]]


class Slice(Protocol):
    """What each slice adds to the application, as `App` has it."""

    rpc: Mapping[str, Any]
    heard: dict[type[Message], Handler]

    @property
    def start(self) -> Sequence[Callable[[], Awaitable[None]]]: ...

    @property
    def tasks(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]: ...


def build(config: Config, runtime: Runtime) -> App:
    """The gateway: doors for the outside, tenants and keys, predictions."""
    database = open_database(config.database_url.get_secret_value(), runtime.home, runtime.credentials)
    given = Given.of(config.pepper.get_secret_value(), config.admin_key.get_secret_value())
    receipts = Receipts(runtime.vault, lambda: runtime.now().timestamp())
    access = (keys := AccessSlice(database, given, receipts, runtime)).service
    ledger, policies = LedgerSlice(database, access, runtime), PolicySlice(database, access, runtime)
    limits, privacy = LimitsSlice(database, access, runtime, lambda: _limited(calls)), PrivacySlice(database, runtime)
    policies.recorder.clean = privacy.cleaner.text
    retries, limiter, bearers = Retries(), _limiter(runtime), _bearers(config, runtime, access)
    calls = Calls(runtime, access, retries, policies.guard, ledger.longwork, ledger.storage, privacy.cleaner)
    screen, ring = _screen(config), lambda: access.keyring
    admission = Admission(
        ring,
        Limit(config.rate, config.burst),
        limiter,
        limits.levels,
        Signatures(ring, runtime.vault, runtime.cache, lambda: runtime.now().timestamp()),
        receipts,
        privacy.cleaner,
        screen.knows,
        bearers,
    )
    access_log = AccessLog(runtime.home / "logs" / "access.log", runtime.telemetry)
    instances = Instances(runtime.directory)
    remote = RemoteEngines(runtime, instances, retries)
    traffic = _traffic(runtime, database, remote, ledger.spending, privacy.cleaner, policies.guards)
    routes = TrafficApi(traffic, instances, runtime, schema.inbox)
    repeats = Repeats(admission, traffic, access_log, lambda: runtime.draining)
    predictions = OipRest(traffic, repeats.learn, runtime.ready, telemetry.version())
    opened, leaving = asyncio.Event(), asyncio.Event()
    web, health = LazyApp(lambda: _web(calls, leaving), opened), _health(runtime)
    public = {"/health/live": health.live, "/health/ready": health.ready, LOGINS: _logins(bearers).handle}
    behind = predictions.handle, web, calls, receipts, privacy.cleaner
    edge = Edge(screen, admission, access_log, public, *behind, lambda: runtime.draining)
    health.known = edge.knows
    forward = Forward(calls, admission, access_log)
    forward.add(OipGrpc(traffic, admission.admit, runtime.ready, telemetry.version()).handlers(), asks=True)
    forward.add(_inspection(calls, runtime), asks=False)
    certificate = _certificate(config)
    http, rpc_door = HttpDoor(edge, config, repeats, certificate), GrpcDoor(forward, config, certificate)
    doors = Doors(http, rpc_door, runtime.home, opened, leaving, routes.ready, lambda: runtime.draining)
    slices: tuple[Slice, ...] = (keys, limits, ledger, policies, privacy)
    heard = {kind: handler for part in slices for kind, handler in part.heard.items()}
    tasks: Tasks = [task for part in slices for task in part.tasks]
    tasks += [traffic.substitutes.share, routes.follow, routes.watch, limiter.follow]
    return App(
        rpc={name: servicer for part in slices for name, servicer in part.rpc.items()},
        database=database,
        schema=schema,
        listeners=[Listener(heard, schema.inbox, broadcast=True), routes.listener, ledger.ends],
        start=[*(hook for part in slices for hook in part.start), limiter.look],
        tasks=[*tasks, access_log.write_for_ever, web.warm, *([bearers.follow] if bearers else [])],
        doors=[doors],
        close=[*policies.close, remote.close, limiter.close, ledger.spending.close, access_log.close]
        + ([bearers.close] if bearers else []),
        ready=routes.ready,
        forget=[dropping(database, schema.metadata, (*_KEPT, *_OWED))],
    )


def _limited(calls: Calls) -> list[str]:
    """The routes that can have limits."""
    return [PREDICTIONS, *(method.path[1:] for method in calls.methods())]


def _inspection(calls: Calls, runtime: Runtime) -> Mapping[str, Any]:
    names = sorted({method.path.split("/")[1] for method in calls.methods()})
    return inspection.handlers([*names, oip_messages.SERVICE], [oip_messages.pool()], runtime.ready)


def _bearers(config: Config, runtime: Runtime, access: AccessService) -> "Bearers | None":
    if config.issuers_file is None:
        return None
    from services.gateway.issuers.bearers import Bearers
    from services.gateway.issuers.table import IssuerTable
    from services.kit.egress import Egress

    egress, now = Egress(runtime.settings.egress_allow), lambda: runtime.now().timestamp()
    bearers = Bearers(IssuerTable(config.issuers_file), egress, lambda: access.keyring, now)
    access.issued = bearers.knows
    return bearers


def _limiter(runtime: Runtime) -> Limiter:
    return Buckets() if runtime.cache.near else SharedBuckets(runtime.cache, runtime.instance)


def _traffic(
    runtime: Runtime,
    database: Database,
    remote: RemoteEngines,
    spending: Spending,
    cleaner: Cleaner,
    guards: Mapping[str, Guard],
) -> Traffic:
    publisher = Publisher(database, schema.outbox)
    coalescer = Coalescer(Inference(runtime, remote), width=lambda target: len(traffic.having(*target)))
    traffic = Traffic(
        publisher,
        coalescer,
        runtime.telemetry.record,
        runtime.instance,
        runtime.now,
        Substitutes(Answers(runtime.cache)),
        spending,
        cleaner,
        guards,
    )
    remote.having, remote.lost, remote.by = traffic.having, traffic.lost, traffic.balancer
    return traffic


def _health(runtime: Runtime) -> Health:
    return Health(runtime.ready, lambda: {name: app.ready() for name, app in runtime.apps.items()})


def _logins(bearers: "Bearers | None") -> Logins:
    return Logins(lambda: bearers.issuers if bearers else {})


def _screen(config: Config) -> Screen:
    def split(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    return Screen([*split(config.allowed_hosts), config.host], split(config.allowed_origins))


def _certificate(config: Config) -> Certificate | None:
    if config.client_ca and config.tls_cert is None:
        raise ConfigError("AIMASS_GATEWAY_CLIENT_CA: needs AIMASS_GATEWAY_TLS_CERT and AIMASS_GATEWAY_TLS_KEY")
    if config.certified_grpc_port is not None and config.client_ca is None:
        raise ConfigError("AIMASS_GATEWAY_CERTIFIED_GRPC_PORT: needs AIMASS_GATEWAY_CLIENT_CA")
    if config.tls_cert is None and config.tls_key is None:
        return None
    if config.tls_cert is None or config.tls_key is None:
        raise ConfigError("AIMASS_GATEWAY_TLS_CERT, AIMASS_GATEWAY_TLS_KEY: both or neither must be set")
    return Certificate(config.tls_cert, config.tls_key, config.client_ca)


def _web(calls: Calls, leaving: asyncio.Event) -> Asgi:
    from fastapi import FastAPI

    from services.gateway.api.documents import Documents
    from services.gateway.api.rest import Rest

    web = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    Rest(calls, leaving).mount(web)
    Documents(calls, telemetry.version()).mount(web)
    return web
