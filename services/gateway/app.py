"""How the gateway is put together."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from aimass.v1 import gateway_events_pb2 as events
from services.gateway.access.api import AccessApi
from services.gateway.access.installation import Given
from services.gateway.access.keeping import Keeping
from services.gateway.access.resealing import Resealing
from services.gateway.access.service import AccessService
from services.gateway.access.shredding import Remains, Shredding
from services.gateway.access.store import AccessStore
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
from services.gateway.journal import Journal
from services.gateway.later import Later
from services.gateway.ledger.books import Books
from services.gateway.limiting.api import LimitsApi
from services.gateway.limiting.domain import PREDICTIONS
from services.gateway.limiting.service import Limiting
from services.gateway.limiting.store import LimitStore
from services.gateway.limits import Buckets, Limit, Limiter
from services.gateway.limits_shared import SharedBuckets
from services.gateway.policies.statutes import Statutes
from services.gateway.privacy.filters import Filters
from services.gateway.receipts import Receipts
from services.gateway.repeats import Repeats
from services.gateway.retries import Retries
from services.gateway.roles.api import RolesApi
from services.gateway.roles.service import Roles
from services.gateway.roles.store import RoleStore
from services.gateway.screening import Screen
from services.gateway.signatures import Signatures
from services.gateway.traffic.answers import Answers
from services.gateway.traffic.api import TrafficApi
from services.gateway.traffic.coalescing import Coalescer
from services.gateway.traffic.engines import Inference, RemoteEngines
from services.gateway.traffic.instances import Instances
from services.gateway.traffic.service import Traffic
from services.gateway.traffic.store import TrafficStore
from services.gateway.traffic.substitutes import Substitutes
from services.kit import telemetry
from services.kit.app import App, Runtime
from services.kit.config import ConfigError
from services.kit.db import Database
from services.kit.inbox import Handler, Listener
from services.kit.tenant_rows import dropping

if TYPE_CHECKING:
    from services.gateway.issuers.bearers import Bearers

# What stays of a tenant whose keys are destroyed: that he was there, who might do what, and what he owes.
_KEPT = ("tenant", "api_key", "role", "binding", "policy_version", "policy_active", "rate_rule")
_OWED = ("quota", "quota_balance", "ledger", "price_list")
Tasks = list[Callable[[], Coroutine[Any, Any, None]]]


def build(config: Config, runtime: Runtime) -> App:
    """The gateway: doors for the outside, tenants and keys, predictions."""
    database = open_database(config.database_url.get_secret_value(), runtime.home, runtime.credentials)
    given = Given.of(config.pepper.get_secret_value(), config.admin_key.get_secret_value())
    roles, vault = Roles(RoleStore(database), runtime.now), runtime.vault
    store = AccessStore(database)
    access = AccessService(store, roles, runtime.home, runtime.now, runtime.random, given, vault)
    limiter = _limiter(runtime)
    signatures = Signatures(lambda: access.keyring, runtime.vault, runtime.cache, lambda: runtime.now().timestamp())
    bearers = _bearers(config, runtime, access)
    books, statutes = Books(database, access, runtime), Statutes(database, access, runtime)
    admission = Admission(lambda: access.keyring, Limit(config.rate, config.burst), limiter, signatures, bearers)
    limiting = Limiting(LimitStore(database), access, lambda: _limited(calls), runtime.now)
    admission.levels = limiting.book.levels
    journal = Journal(runtime.home / "logs" / "access.log", runtime.telemetry)
    retries = Retries()
    calls = Calls(runtime, access, retries)
    instances = Instances(runtime.directory)
    traffic, remote = _traffic(runtime, database, RemoteEngines(runtime, instances, retries))
    traffic.spending, calls.longwork, calls.storage = books.spending, books.longwork, books.storage
    traffic.guards, calls.guard = statutes.guards, statutes.guard
    routes = TrafficApi(traffic, instances, runtime, schema.inbox)
    edge = _edge(config, runtime, admission, journal, bearers)
    edge.costly = lambda request: calls.costly(request.method, request.path)
    edge.receipts = admission.receipts = receipts = Receipts(vault, lambda: runtime.now().timestamp())
    edge.keyed = lambda request: calls.keyed(request.method, request.path)
    predictions = OipRest(traffic, runtime.ready, telemetry.version())
    repeats = Repeats(admission, traffic, journal, lambda: runtime.draining)
    edge.predictions, predictions.learn = predictions.handle, repeats.learn
    privacy = Filters(database, runtime)
    edge.cleaner = admission.cleaner = calls.cleaner = traffic.cleaner = privacy.cleaner
    statutes.recorder.clean = privacy.cleaner.text
    forward, version = Forward(calls, admission, journal), telemetry.version()
    forward.add(OipGrpc(traffic, admission.admit, runtime.ready, version).handlers(), asks=True)
    forward.add(_inspection(calls, runtime), asks=False)
    certificate = _certificate(config)
    rpc = GrpcDoor(forward, forward.underway, config, certificate)
    doors = Doors(HttpDoor(edge, config, certificate, repeats), rpc, runtime.home, secure=certificate is not None)
    doors.ready, doors.stopping = routes.ready, lambda: runtime.draining
    edge.web = web = Later(lambda: _web(edge, calls, doors.leaving), doors.opened)
    (access_api, tasks), limits_api = _access(access, store, runtime, receipts), LimitsApi(limiting)
    told = (events.ApiKeyChanged, events.TenantChanged, events.RoleChanged, events.BindingChanged)
    heard: dict[type[Message], Handler] = dict.fromkeys(told, access_api.changed)
    heard |= {events.LimitChanged: limits_api.changed} | books.heard | statutes.heard | privacy.heard
    more = {"aimass.v1.Limits": limits_api, **books.rpc, **statutes.rpc, **privacy.rpc}
    follow = [bearers.follow] if bearers else []
    follow += [traffic.substitutes.share, routes.follow, routes.watch, limiting.following.watch, privacy.watch]
    return App(
        rpc={"aimass.v1.Access": access_api, "aimass.v1.Roles": RolesApi(roles), **more},
        database=database,
        schema=schema,
        listeners=[Listener(heard, schema.inbox, broadcast=True), routes.listener, books.ends],
        start=[access.start, limiting.start, *books.start, *statutes.start, privacy.start, limiter.look],
        tasks=[*tasks, *books.tasks, *statutes.tasks, limiter.follow, journal.write_for_ever, *follow, web.warm],
        doors=[doors],
        close=[*statutes.close, remote.close, limiter.close, books.spending.close, journal.close]
        + ([bearers.close] if bearers else []),
        ready=routes.ready,
        forget=[dropping(database, schema.metadata, (*_KEPT, *_OWED))],
    )


def _access(access: AccessService, store: AccessStore, runtime: Runtime, receipts: Receipts) -> tuple[AccessApi, Tasks]:
    """The servicer of tenants and keys, and what goes on beside it."""
    shredding = Shredding(access, store, runtime.storage.keys, runtime.now, runtime.forgetting.wake)
    api = AccessApi(access, Keeping(access, store, runtime.now), receipts, shredding)
    remains = Remains(store, runtime.storage.keys, runtime.forgetting.wake)
    return api, [access.following.watch, remains.run, Resealing(store, runtime.vault).run]


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


def _traffic(runtime: Runtime, database: Database, remote: RemoteEngines) -> tuple[Traffic, RemoteEngines]:
    store = TrafficStore(database, schema.outbox)
    coalescer = Coalescer(Inference(runtime, remote), width=lambda target: len(traffic.having(*target)))
    instead = Substitutes(Answers(runtime.cache))
    traffic = Traffic(store, coalescer, runtime.telemetry.record, runtime.instance, runtime.now, instead)
    remote.having, remote.lost, remote.by = traffic.having, traffic.lost, traffic.balancer
    return traffic, remote


def _edge(config: Config, runtime: Runtime, admission: Admission, journal: Journal, bearers: "Bearers | None") -> Edge:
    def parts() -> dict[str, bool]:
        return {name: app.ready() for name, app in runtime.apps.items()}

    def split(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    health = Health(runtime.ready, parts)
    screen = Screen([*split(config.allowed_hosts), config.host], split(config.allowed_origins))
    logins = Logins(lambda: bearers.issuers if bearers else {})
    public = {"/health/live": health.live, "/health/ready": health.ready, LOGINS: logins.handle}
    admission.ours = screen.knows
    edge = Edge(screen, admission, journal, public, lambda: runtime.draining)
    health.known = edge.knows
    return edge


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


def _web(edge: Edge, calls: Calls, leaving: asyncio.Event) -> Asgi:
    from fastapi import FastAPI

    from services.gateway.api.documents import Documents
    from services.gateway.api.rest import Rest

    web = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    Rest(calls, edge.take, leaving).mount(web)
    Documents(calls, telemetry.version()).mount(web)
    return web
