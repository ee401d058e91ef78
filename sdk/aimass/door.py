"""Where the gateway is and which key to show: from arguments, the environment, the login, the installation here."""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimass.failures import Failure


@dataclass(frozen=True)
class Door:
    """An address and a key; `origin` says where they were found, `ca` is the file of the authority that is trusted."""

    url: str
    key: str
    origin: str = "arguments"
    ca: str = ""


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
    places = [_environment(env), _login(env), _installation(env)]
    for found in places:
        if found and url in (None, found.url) and (key or found.key):
            return _door(found.url, key or found.key, found.origin, ca or found.ca)
    if url or any(found and found.url for found in places):
        raise Failure("no_key", "no key is known for this address: pass one, set AIMASS_KEY, or run `aimass login`")
    raise Failure(
        "no_key",
        "no installation is known: start one here with `aimass up`, or run `aimass login URL` for one elsewhere",
    )


def _door(url: str, key: str, origin: str, ca: str) -> Door:
    if not url.startswith(("http://", "https://")):
        raise Failure("invalid_value", f"{url} is no address: it begins with http:// or https://")
    if not key.isascii() or any(character.isspace() for character in key):
        raise Failure("invalid_value", "the key has characters that no key has")
    return Door(url.rstrip("/"), key, origin, ca)


def _environment(env: Mapping[str, str]) -> Door | None:
    if not env.get("AIMASS_URL"):
        return None
    return Door(env["AIMASS_URL"].rstrip("/"), env.get("AIMASS_KEY", ""), "environment")


def _login(env: Mapping[str, str]) -> Door | None:
    try:
        known = tomllib.loads(config_file(env).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # no TOML, or no text
        raise Failure("no_key", f"{config_file(env)} cannot be read: {error}") from None
    return Door(str(known.get("url", "")), str(known.get("key", "")), str(config_file(env)), str(known.get("ca", "")))


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
    """Keeps address and key for the next time, readable by their owner only."""
    path = config_file(env)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_suffix(".new")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"url = {json.dumps(door.url)}\nkey = {json.dumps(door.key)}\n")
        if door.ca:
            file.write(f"ca = {json.dumps(str(Path(door.ca).resolve()))}\n")
    aside.replace(path)
    return path
