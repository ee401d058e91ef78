"""Clients of the Kafka brokers of somebody else: each connection goes to an address that was checked.

Brokers name other brokers, and are not trusted with what they name. This runs in a child, whose memory is bounded.
"""

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from services.data.reading.folders import Place
from services.data.reading.topics import KafkaSource, Mechanism
from services.kit.egress import Egress, denied
from services.kit.errors import Code, FailedPrecondition, Failure, InvalidValue, Unavailable

_MIB = 2**20
_BOOTSTRAP, _ASKED, _AGE = 6000, 10_000, 30_000  # milliseconds
_MECHANISMS = {
    Mechanism.DEFAULT: "SCRAM-SHA-512",
    Mechanism.SCRAM_SHA_512: "SCRAM-SHA-512",
    Mechanism.SCRAM_SHA_256: "SCRAM-SHA-256",
    Mechanism.PLAIN: "PLAIN",
}
_READING: dict[str, Any] = {
    "group_id": None,
    "metrics_enabled": False,
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "allow_auto_create_topics": False,
    # What a transaction wrote that was aborted is no record, and what is not committed yet is left for the next run.
    "isolation_level": "read_committed",
    "fetch_max_bytes": 16 * _MIB,
    "max_partition_fetch_bytes": 2 * _MIB,
    "receive_message_max_bytes": 64 * _MIB,
    "fetch_max_wait_ms": 250,
}


@dataclass
class Door:
    """Where connections of clients may go; keeps why one was refused, which the library does not hand on."""

    source: KafkaSource
    place: Place
    refusals: list[Failure] = field(default_factory=list)
    # What brokers said of the client when it told them who it is: the library only logs that, and tries again.
    unproved: bool = False

    def __call__(self, host: str, port: int) -> str | None:
        """The checked address of a broker."""
        egress = Egress(self.place.allow)
        try:
            if not self.source.tls and not egress.allows(host.lower(), port):
                raise denied(host)
            return asyncio.run(egress.address(host.lower(), port))
        except Failure as failure:
            if failure.code is Code.EGRESS_DENIED:
                self.refusals.append(failure)
            return None


@contextlib.contextmanager
def opened(place: Place, source: KafkaSource) -> Iterator[Any]:
    """A consumer without a group. Raises unavailable, egress_denied, failed_precondition, invalid_value."""
    consumer, door = None, Door(source, place)
    with named(source, door):
        from kafka import KafkaConsumer

        from services.data.reading import kafka_codecs
        from services.kit.bus_kafka.client import end_consumer

        kafka_codecs.install()
        try:
            consumer = _client(KafkaConsumer, door, **_READING)
            yield consumer
        finally:
            if consumer is not None:
                end_consumer(consumer, 500)


@dataclass(frozen=True)
class Topic:
    """A topic as a broker describes it. `id` is another one when it is deleted and created again; may be empty."""

    id: str
    partitions: tuple[int, ...]


def describe(place: Place, source: KafkaSource) -> Topic:
    """Raises invalid_value when there is none, failed_precondition when it may not be read; as `opened`."""
    door = Door(source, place)
    with named(source, door):
        from kafka import KafkaAdminClient

        with contextlib.closing(_client(KafkaAdminClient, door)) as admin:
            found = admin.describe_topics([source.topic])[0]
    match found["error_code"], found["partitions"]:
        case 3, _:
            raise InvalidValue(f"there is no topic {source.topic}")
        case 29, _:
            raise _forbidden(source)
        case 0, [_, *_]:
            parts = sorted(part["partition_index"] for part in found["partitions"])
            known = str(found.get("topic_id") or "")
            return Topic("" if set(known) <= {"0", "-"} else known, tuple(parts))
    raise Unavailable(f"the brokers cannot describe {source.topic} now")


def _client(kind: Any, door: Door, **settings: Any) -> Any:
    from services.kit.bus_kafka.client import listen_to_library, make_client

    source, place = door.source, door.place
    if not source.tls and not place.trusted:
        raise InvalidValue("brokers that the operator has not named are reached by TLS only: set tls")
    if not place.secret and (source.sasl_username or source.client_certificate):
        lacking = "sasl_password" if source.sasl_username else "client_key"
        raise FailedPrecondition(f"say the {lacking}: none is stored for these brokers, and this way to know them")
    listen_to_library()
    options = {
        "bootstrap_servers": list(source.bootstrap_servers),
        "client_id": "aimass",
        "security_protocol": _protocol(source),
        "bootstrap_timeout_ms": _BOOTSTRAP,
        "request_timeout_ms": _ASKED,
        "metadata_max_age_ms": _AGE,
        "reconnect_backoff_max_ms": 1000,
    }
    if source.tls:
        options["ssl_context"] = _context(source, place.secret)
    if source.sasl_username:
        options["sasl_mechanism"] = _MECHANISMS[source.sasl_mechanism]
        options |= {"sasl_plain_username": source.sasl_username, "sasl_plain_password": place.secret}
    return make_client(kind, door, **options, **settings)


def _protocol(source: KafkaSource) -> str:
    transport = "SSL" if source.tls else "PLAINTEXT"
    return f"SASL_{transport}" if source.sasl_username else transport


def _context(source: KafkaSource, key: str) -> ssl.SSLContext:
    """Raises invalid_value for what is no certificate or no key."""
    try:
        context = ssl.create_default_context(cadata=source.ca_certificates or None)
    except (ssl.SSLError, ValueError):
        raise InvalidValue("the ca_certificates are not PEM") from None
    if source.client_certificate:
        # The library of Python's takes files only: this one has no name and is never on a disk.
        descriptor = os.memfd_create("certificate")
        try:
            os.write(descriptor, f"{source.client_certificate}\n{key}\n".encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
        except (ssl.SSLError, ValueError, OSError):
            raise InvalidValue("the client_certificate and the client_key are not PEM, or no pair") from None
        finally:
            os.close(descriptor)
    return context


def _no_password() -> str:
    raise ValueError


def _forbidden(source: KafkaSource) -> Failure:
    who = source.sasl_username or ("the owner of that certificate" if source.client_certificate else "this client")
    return FailedPrecondition(f"the brokers do not let {who} read {source.topic}")


def _unknown(source: KafkaSource) -> Failure:
    return FailedPrecondition(f"the brokers refuse the user {source.sasl_username} and the password")


class _Heard(logging.Handler):
    """Listens to what the library says of connections while the context lasts."""

    def __init__(self, door: Door) -> None:
        super().__init__(logging.WARNING)
        self._door, self._logger = door, logging.getLogger("kafka.net.manager")

    def emit(self, record: logging.LogRecord) -> None:
        from kafka.errors import SaslAuthenticationFailedError, UnsupportedSaslMechanismError

        said = record.args if isinstance(record.args, tuple) else ()
        if any(isinstance(one, SaslAuthenticationFailedError | UnsupportedSaslMechanismError) for one in said):
            self._door.unproved = True

    def __enter__(self) -> None:
        self._logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)


@contextlib.contextmanager
def named(source: KafkaSource, door: Door) -> Iterator[None]:
    """What the library raises, as failures that name the thing."""
    try:
        from kafka import errors
    except ImportError:
        raise FailedPrecondition("this installation has no client for Kafka: install its extra `far`") from None
    heard = _Heard(door)
    try:
        with heard:
            yield
    except (errors.SaslAuthenticationFailedError, errors.UnsupportedSaslMechanismError):
        raise _unknown(source) from None
    except errors.AuthorizationError:
        raise _forbidden(source) from None
    except errors.UnsupportedCodecError as error:
        raise FailedPrecondition(f"{source.topic} cannot be read: {error}") from None
    except errors.CorruptRecordError as error:
        raise FailedPrecondition(f"{source.topic} has a damaged record: {str(error)[:200]}") from None
    except (errors.KafkaConfigurationError, errors.IllegalStateError, errors.IllegalArgumentError):
        raise
    except errors.KafkaError as error:
        if door.refusals:
            raise door.refusals[0] from None
        if door.unproved:
            raise _unknown(source) from None
        raise away(source) from error


def away(source: KafkaSource) -> Failure:
    """The failure for brokers that do not answer."""
    where = ", ".join(source.bootstrap_servers)
    speaks = "TLS" if source.tls else "no TLS"
    return Unavailable(f"no broker of {where} answers (with {speaks}, as the source says)")
