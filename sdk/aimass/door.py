"""The address of the gateway and the key: from arguments, the environment, the login, or the installation here."""

import json
import os
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from aimass.failures import Failure

_LEAD = 60.0  # seconds before its expiry that a token is renewed, at most half its lifetime
_PATIENCE, _PAUSE = 30.0, 0.05  # seconds to wait for the lock, and between two attempts


@dataclass(frozen=True)
class Grant:
    """What is needed to renew the token of a login with an issuer."""

    issuer: str  # its name at the gateway
    url: str
    client_id: str
    subject: str = ""  # a digest of the user's id
    nonce: str = ""
    refresh: str = field(default="", repr=False)
    due: float = 0.0  # Unix seconds by our clock; 0 if unknown

    def renewed(self, refresh: str, life: float, now: float) -> "Grant":
        """The grant with a new refresh token, whose access token lives `life` seconds from `now`."""
        return replace(self, refresh=refresh, due=now + max(life - _LEAD, life / 2) if life else 0.0)


@dataclass(frozen=True)
class Door:
    """An address and a key, where they were found (`origin`), and the PEM file `ca` of the authority to trust.

    If the key is the token of a login, `grant` renews it.
    """

    url: str
    key: str
    origin: str = "arguments"
    ca: str = ""
    grant: Grant | None = None


def config_file(env: Mapping[str, str] = os.environ) -> Path:
    """The file in which `aimass login` saves address and key."""
    folder = env.get("XDG_CONFIG_HOME") or Path(env.get("HOME") or Path.home()) / ".config"
    return Path(folder) / "aimass" / "config.toml"


def home(env: Mapping[str, str] = os.environ) -> Path:
    """The home folder of the installation on this machine: AIMASS_HOME, or `.aimass`."""
    return Path(env.get("AIMASS_HOME") or ".aimass")


def find(
    url: str | None = None, key: str | None = None, env: Mapping[str, str] = os.environ, ca: str | None = None
) -> Door:
    """The first of: the arguments; AIMASS_URL and AIMASS_KEY; the login; the installation in this folder.

    The authority to trust is `ca`, AIMASS_CA, that of the login, or the system's. A key is never sent to an address of
    another origin. Raises Failure `no_key` with what to do.
    """
    ca = ca or env.get("AIMASS_CA") or None
    if url and key:
        return _door(url, key, "arguments", ca or "")
    places = [_environment(env), kept(env), _installation(env)]
    for found in places:
        if found and url in (None, found.url) and (key or found.key):
            return _door(found.url, key or found.key, found.origin, ca or found.ca, None if key else found.grant)
    if url or any(found and found.url for found in places):
        raise Failure("no_key", "no key is known for this address: pass one, set AIMASS_KEY, or run `aimass login`")
    raise Failure(
        "no_key",
        "no installation is known: start one here with `aimass up`, or run `aimass login URL` for one elsewhere",
    )


def _door(url: str, key: str, origin: str, ca: str, grant: Grant | None = None) -> Door:
    if not url.startswith(("http://", "https://")):
        raise Failure("invalid_value", f"{url} is not an address: it must begin with http:// or https://")
    if not key.isascii() or any(character.isspace() for character in key):
        raise Failure("invalid_value", "the key must be ASCII without spaces")
    return Door(url.rstrip("/"), key, origin, ca, grant)


def _environment(env: Mapping[str, str]) -> Door | None:
    if not env.get("AIMASS_URL"):
        return None
    return Door(env["AIMASS_URL"].rstrip("/"), env.get("AIMASS_KEY", ""), "environment")


def kept(env: Mapping[str, str] = os.environ) -> Door | None:
    """What `aimass login` saved; None if nothing. Raises Failure `no_key` for a file that cannot be read."""
    path = config_file(env)
    try:
        known = tomllib.loads(path.read_text(encoding="utf-8"))
        grant = _grant(known["login"]) if "login" in known else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:  # no TOML, no text, or no login
        raise Failure("no_key", f"{path} cannot be read: {error}") from None
    url = str(known.get("url", "")).rstrip("/")
    return Door(url, str(known.get("key", "")), str(path), str(known.get("ca", "")), grant)


def _grant(values: Any) -> Grant:
    """Fields of a newer client are ignored."""
    known = {one.name: values[one.name] for one in fields(Grant) if one.name in dict(values)}
    due = float(known.pop("due", 0.0))
    if not all(isinstance(value, str) for value in known.values()):
        raise ValueError("its login has fields that are not strings")
    return Grant(**known, due=due)


def _installation(env: Mapping[str, str]) -> Door | None:
    folder = home(env)
    try:
        doors: dict[str, Any] = json.loads((folder / "doors.json").read_text())
        key = (folder / "admin-key").read_text().strip()
        return Door(address(doors["http"]), key, str(folder))
    except (OSError, ValueError, KeyError, TypeError):  # not there, or not yet written
        return None


def address(door: Any) -> str:
    """The URL of a listener in doors.json: a port, host:port, or a URL."""
    text = str(door)
    if text.startswith("http"):
        return text.rstrip("/")
    return f"http://{text}" if ":" in text else f"http://127.0.0.1:{text}"


def save(door: Door, env: Mapping[str, str] = os.environ) -> Path:
    """Saves address and key in a file that only its owner can read. Raises Failure `failed_precondition`."""
    path = config_file(env)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(_text(door))
            file.flush()
            os.fsync(file.fileno())  # the refresh token before this one is spent
        aside.replace(path)
    except OSError as error:
        raise _nothing_kept(path, error) from None
    return path


def _nothing_kept(path: Path, error: OSError) -> Failure:
    return Failure("failed_precondition", f"nothing can be saved in {path.parent}: {error.strerror}")


def _text(door: Door) -> str:
    values = {"url": door.url, "key": door.key} | ({"ca": str(Path(door.ca).resolve())} if door.ca else {})
    lines = [f"{name} = {_quoted(value)}\n" for name, value in values.items()]
    if door.grant:
        lines.append("\n[login]\n")
        lines += [f"{name} = {_quoted(value)}\n" for name, value in asdict(door.grant).items()]
    return "".join(lines)


def _quoted(value: str | float) -> str:
    """A JSON string is one of TOML, except for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def forget(env: Mapping[str, str] = os.environ) -> None:
    """Deletes what is saved."""
    for path in (config_file(env), config_file(env).with_suffix(".new")):
        path.unlink(missing_ok=True)


@contextmanager
def alone(env: Mapping[str, str] = os.environ, patience: float = _PATIENCE) -> Iterator[None]:
    """Locks what is saved against other processes and threads. Raises Failure `unavailable` if the lock is not free in
    time, `failed_precondition` if nothing can be saved."""
    import fcntl  # not on every platform; without it there are no logins

    path = config_file(env).with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _nothing_kept(path, error) from None
    try:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise Failure("unavailable", f"another process has held {path} for {patience:g} s") from None
            except OSError as error:  # not every file system has locks
                raise _nothing_kept(path, error) from None
            time.sleep(_PAUSE)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
    finally:
        os.close(lock)
