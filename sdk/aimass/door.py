"""Where the gateway is and which key to show: from arguments, the environment, the login, the installation here."""

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

_LEAD = 60.0  # seconds before its end that a token is renewed, or half its life
_PATIENCE, _PAUSE = 30.0, 0.05  # seconds for the turn of others, and between two looks


@dataclass(frozen=True)
class Grant:
    """What an issuer gave with a token: where, for whom and with what another one is asked for."""

    issuer: str  # as the gateway names it
    url: str
    client_id: str
    subject: str = ""  # a digest
    nonce: str = ""
    refresh: str = field(default="", repr=False)
    due: float = 0.0  # Unix seconds by our clock; 0 where nobody knows

    def renewed(self, refresh: str, life: float, now: float) -> "Grant":
        """As it is with a token that lives so many seconds from now."""
        return replace(self, refresh=refresh, due=now + max(life - _LEAD, life / 2) if life else 0.0)


@dataclass(frozen=True)
class Door:
    """An address and a key; `origin` says where they were found, `ca` is the file of the authority that is trusted,
    `grant` is how the key is renewed if it is the token of somebody who logged in."""

    url: str
    key: str
    origin: str = "arguments"
    ca: str = ""
    grant: Grant | None = None


def config_file(env: Mapping[str, str] = os.environ) -> Path:
    """Where `aimass login` keeps address and key: the user's configuration folder."""
    folder = env.get("XDG_CONFIG_HOME") or Path(env.get("HOME") or Path.home()) / ".config"
    return Path(folder) / "aimass" / "config.toml"


def home(env: Mapping[str, str] = os.environ) -> Path:
    """The folder of an installation on this machine: AIMASS_HOME, or `.aimass` here."""
    return Path(env.get("AIMASS_HOME") or ".aimass")


def find(
    url: str | None = None, key: str | None = None, env: Mapping[str, str] = os.environ, ca: str | None = None
) -> Door:
    """The first that is known of: arguments; AIMASS_URL and AIMASS_KEY; the login; the installation in this folder.

    The authority that a certificate must be of: `ca`, AIMASS_CA, that of the login, or those of the system.
    A key is never sent to an address of another origin. Raises Failure `no_key` with what to do.
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
        raise Failure("invalid_value", f"{url} is no address: it begins with http:// or https://")
    if not key.isascii() or any(character.isspace() for character in key):
        raise Failure("invalid_value", "the key has characters that no key has")
    return Door(url.rstrip("/"), key, origin, ca, grant)


def _environment(env: Mapping[str, str]) -> Door | None:
    if not env.get("AIMASS_URL"):
        return None
    return Door(env["AIMASS_URL"].rstrip("/"), env.get("AIMASS_KEY", ""), "environment")


def kept(env: Mapping[str, str] = os.environ) -> Door | None:
    """What `aimass login` keeps, if it does. Raises Failure `no_key` for what cannot be read."""
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


def _grant(said: Any) -> Grant:
    """What a newer client keeps beside is passed over."""
    known = {one.name: said[one.name] for one in fields(Grant) if one.name in dict(said)}
    due = float(known.pop("due", 0.0))
    if not all(isinstance(value, str) for value in known.values()):
        raise ValueError("its login has fields that are no text")
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
    """The URL of a door as doors.json names it: a port, host:port, or the URL itself."""
    text = str(door)
    if text.startswith("http"):
        return text.rstrip("/")
    return f"http://{text}" if ":" in text else f"http://127.0.0.1:{text}"


def save(door: Door, env: Mapping[str, str] = os.environ) -> Path:
    """Keeps address and key for the next time, readable by their owner only. Raises Failure `failed_precondition`."""
    path = config_file(env)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(_text(door))
            file.flush()
            os.fsync(file.fileno())  # what an issuer gave in exchange for the one before is nowhere else
        aside.replace(path)
    except OSError as error:
        raise _nothing_kept(path, error) from None
    return path


def _nothing_kept(path: Path, error: OSError) -> Failure:
    return Failure("failed_precondition", f"nothing can be kept in {path.parent}: {error.strerror}")


def _text(door: Door) -> str:
    said = {"url": door.url, "key": door.key} | ({"ca": str(Path(door.ca).resolve())} if door.ca else {})
    lines = [f"{name} = {_quoted(value)}\n" for name, value in said.items()]
    if door.grant:
        lines.append("\n[login]\n")
        lines += [f"{name} = {_quoted(value)}\n" for name, value in asdict(door.grant).items()]
    return "".join(lines)


def _quoted(value: str | float) -> str:
    """TOML takes the strings of JSON, halves of pairs and one control character apart."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def forget(env: Mapping[str, str] = os.environ) -> None:
    """Keeps nothing any more."""
    for path in (config_file(env), config_file(env).with_suffix(".new")):
        path.unlink(missing_ok=True)


@contextmanager
def alone(env: Mapping[str, str] = os.environ, patience: float = _PATIENCE) -> Iterator[None]:
    """No other process or thread changes what is kept meanwhile. Raises Failure `unavailable` if it is never our turn,
    `failed_precondition` where nothing can be kept."""
    import fcntl  # not everywhere; where it is not, nobody logs in

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
