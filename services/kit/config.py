"""Settings from the environment, read once at start. No other module reads it."""

import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

S = TypeVar("S", bound="Settings")
T = TypeVar("T", str, SecretStr)


class ConfigError(Exception):
    """The environment has wrong settings; the text names every variable that is wrong."""


def _form(form: str, pattern: str) -> AfterValidator:
    """Checks that a value is empty or matches; otherwise the error says `form`, and never the value."""

    def check(value: T) -> T:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text and not re.fullmatch(pattern, text):
            raise PydanticCustomError("form", "must be {form}", {"form": form})
        return value

    return AfterValidator(check)


Address = Annotated[str, _form("host:port", r"\S*:[0-9]{1,5}")]
AddressRange = Annotated[str, _form("host:port or host:first-last", r"\S+:[0-9]{1,5}(-[0-9]{1,5})?")]
_DATABASE = "postgresql+psycopg://user:password@host/database"
DatabaseUrl = Annotated[SecretStr, _form(_DATABASE, r"(postgresql\+psycopg|sqlite)://.+")]
RedisUrl = Annotated[SecretStr, _form("redis://host:port/db or rediss://host:port/db", r"rediss?://.+")]
COMMAS = BeforeValidator(lambda value: value.split(",") if isinstance(value, str) else value)


class Settings(BaseModel):
    """One service's settings: field `x` is the variable `<prefix>X`; a SecretStr field also `<prefix>X_FILE`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
    prefix: ClassVar[str]

    @classmethod
    def variables(cls) -> dict[str, tuple[str, FieldInfo]]:
        """The variables of this class, with the fields that they set."""
        known = {f"{cls.prefix}{name}".upper(): (name, field) for name, field in cls.model_fields.items()}
        secret = {f"{v}_FILE": (n, f) for v, (n, f) in known.items() if f.annotation in (SecretStr, SecretStr | None)}
        return known | secret


class Installation(Settings):
    """The settings of every process."""

    prefix = "AIMASS_"

    # The home folder: all that near adapters store.
    home: Path = Path(".aimass")
    # The bus. Empty: a file in `home`; grpc://host:port: the process that holds that file; kafka://host:port,...:
    # Kafka, with ?partitions=12&replication=1 for new topics; kafka+ssl:// for TLS.
    bus_url: SecretStr = SecretStr("")
    # host:port where this process serves its bus to other processes. Empty: nowhere.
    bus_listen: Address = ""
    # The cache of counters, leases and small values. Empty: in this process; redis://host:port/0; rediss:// for TLS.
    cache_url: SecretStr = SecretStr("")
    # Whether Redis may be older than 7, where users cannot be restricted to our scripts.
    cache_any_version: bool = False
    # Where other services are. Empty: all in this process; static:registry=10.0.0.1:9101|10.0.0.2:9101;weight=3,...;
    # dns:registry=registry:9101,...; redis://host:port/0: every process announces itself by a lease in Redis.
    discovery_url: SecretStr = SecretStr("")
    # The weight of this process among the instances of its services, where calls are balanced by weight.
    weight: int = Field(1, ge=1, le=1000)
    # The host that this process announces when a service listens on all addresses. Empty: the host name.
    advertise_host: str = ""
    # How full the disk of `home` may be, in percent, before uploads, data sets and log segments are refused. Reads and
    # small writes continue. 100: no limit.
    disk_percent: int = Field(90, ge=0, le=100)
    # Where blobs and tables are. Empty: in `home`; s3://bucket/prefix?endpoint=https://host:port&region=us-east-1.
    blobs_url: SecretStr = SecretStr("")
    blobs_access_key: SecretStr = SecretStr("")
    blobs_secret_key: SecretStr = SecretStr("")
    # MiB of far blobs and tables that are cached in `home`, without those in use.
    blobs_cache_mib: int = Field(20480, ge=0)
    # A folder with ca.pem, cert.pem and key.pem: calls between processes use mutual TLS, and TLS servers get the client
    # certificate. Empty: no TLS.
    tls_dir: Path | None = None
    # The folder of the public keys that verify tokens between services; all machines share it. Empty: in `home`.
    keys_dir: Path | None = None
    # The secrets key, 32 bytes as base64: encrypts secrets in databases and wraps tenant keys; all machines share it.
    # Empty: a file in `home`; with a bucket, blobs, tables and records are then stored in plain, and each process logs
    # that when it starts.
    secrets_key: SecretStr = SecretStr("")
    # Other secrets keys, comma-separated, which only decrypt, while the secrets key is changed.
    secrets_old_keys: SecretStr = SecretStr("")
    # The calls file, in TOML: deadlines, callers, breakers, balancing, health checks and ejection of internal calls.
    # Empty: those of the contract.
    calls_file: Path | None = None
    # host:port of metrics (/metrics) and health; host:first-last: the first free port, which is written to `observed`
    # in the home folder. Empty: nowhere.
    observe_listen: AddressRange = ""
    # Private addresses that outgoing calls may reach: host or host:port, comma-separated.
    egress_allow: str = ""
    # The lowest level of log lines that are written to log files and the log centre.
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    # Seconds that requests in flight may still take after SIGTERM.
    drain_seconds: float = Field(30.0, ge=0)
    # Seconds in which other processes may still start calls after SIGTERM; up to three times as long while they do.
    drain_accept_seconds: float = Field(2.0, ge=0)


def load(kind: type[S], env: Mapping[str, str]) -> S:
    """Builds settings from an environment; unset variables keep their defaults. Raises ConfigError."""
    values, wrong = dict[str, Any](), list[str]()
    variables = kind.variables()
    for variable, (name, _) in variables.items():
        if variable not in env:
            continue
        # The name of a setting may end with _FILE itself.
        secret = variable.endswith("_FILE") and not name.endswith("_file")
        if name in values:
            wrong.append(f"{variable.removesuffix('_FILE')} and {variable}: only one of them may be set")
            continue
        try:
            values[name] = _read(variable, env[variable]) if secret else env[variable]
        except ConfigError as error:
            wrong.append(str(error))
    try:
        made = kind(**values)
    except ValidationError as error:
        by_field = {name: variable for variable, (name, _) in reversed(list(variables.items()))}
        wrong += [f"{by_field[str(e['loc'][0])]}: {e['msg'][0].lower()}{e['msg'][1:]}" for e in error.errors()]
    if wrong:
        raise ConfigError("; ".join(wrong))
    return made


def _read(variable: str, value: str) -> str:
    try:
        return Path(value).read_text().strip()
    except OSError as error:
        raise ConfigError(f"{variable}: {value} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{variable}: {value} must be text in UTF-8") from None


def of(service: str) -> type[Settings]:
    """A service's settings."""
    found: type[Settings] = import_module(f"services.{service}.config").Config
    return found


def named(services: Iterable[str], env: Mapping[str, str]) -> list[str]:
    """Those of the services that an environment has settings of: the others' need not be loaded."""
    return [name for name in services if any(variable.startswith(f"AIMASS_{name.upper()}_") for variable in env)]


# What the client and the command line read: services may be started by a shell that has them.
CLIENT = frozenset({"AIMASS_URL", "AIMASS_KEY", "AIMASS_SIGNING", "AIMASS_RECEIPTS", "AIMASS_CA", "AIMASS_PROJECT"})


def load_all(
    kinds: Iterable[type[Settings]], others: Iterable[type[Settings]], env: Mapping[str, str]
) -> tuple[Installation, list[Settings]]:
    """The settings of a process: the installation's, and those of its services.

    Of `others` the names may be there too, with whatever they say: services share an environment.
    Raises ConfigError that names every AIMASS_* variable which nothing reads, or whose value cannot be.
    """
    kinds, found, wrong = (Installation, *kinds), list[Settings](), list[str]()
    known = CLIENT.union(variable for kind in (*kinds, *others) for variable in kind.variables())
    # A typing error must not pass unseen.
    if unknown := sorted(v for v in env if v.startswith("AIMASS_") and v not in known):
        wrong.append(f"unknown settings: {', '.join(unknown)}")
    for kind in kinds:
        try:
            found.append(load(kind, env))
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("; ".join(wrong))
    shared, *own = found
    assert isinstance(shared, Installation)
    return shared, own
