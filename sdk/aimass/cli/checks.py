"""The checks of `aimass doctor`: each looks at one thing and says what to do about it. None changes anything."""

import fcntl
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from aimass.calls import unary
from aimass.client import Client
from aimass.connection import STRANGE
from aimass.door import Door, config_file, find, home
from aimass.failures import Failure

_LITTLE, _NOTHING = 5 * 2**30, 2**29  # bytes of free disk
_PORTS = {"AIMASS_GATEWAY_HTTP_PORT": 8080, "AIMASS_GATEWAY_GRPC_PORT": 9090}
_SECRETS = ("admin-key", "keys/pepper", "keys/secrets.key")


class Grade(IntEnum):
    """How bad a finding is."""

    GOOD = 0
    POOR = 1
    BAD = 2


@dataclass(frozen=True)
class Finding:
    """What was checked, what was found, and what to do; `do` is empty if all is well."""

    grade: Grade
    what: str
    found: str
    do: str = ""


def everything(env: Mapping[str, str]) -> Iterator[Finding]:
    """All checks, the most basic first."""
    folder = home(env)
    yield python(sys.version_info[:3])
    yield servers()
    yield from place(folder)
    yield disk(folder, env.get("AIMASS_DISK_PERCENT", ""))
    yield from secrets(folder, env)
    door = _door(env)
    answers = isinstance(door, Door) and _answers(door)
    if not answers:
        yield lock(folder)
        yield from ports(env)
    yield gateway(door)


def python(version: tuple[int, ...]) -> Finding:
    """3.11 or newer."""
    text = ".".join(map(str, version))
    if version < (3, 11):
        return Finding(
            Grade.BAD, "Python", text, "AI Mass needs Python 3.11 or newer: install it, then create a new environment"
        )
    return Finding(Grade.GOOD, "Python", text)


def servers() -> Finding:
    """Whether `aimass up` can work. The client does not need the servers."""
    if importlib.util.find_spec("services"):
        return Finding(Grade.GOOD, "servers", "installed")
    return Finding(Grade.POOR, "servers", "not installed", "to run them on this machine: pip install aimass-server")


def place(folder: Path) -> Iterator[Finding]:
    """The home folder is a folder that can be written and that only its owner can read."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    what = f"home folder {folder}"
    if not nearest.is_dir():
        yield Finding(
            Grade.BAD, what, f"{nearest} is not a folder", "move it away, or set AIMASS_HOME to another folder"
        )
    elif not os.access(nearest, os.W_OK | os.X_OK):
        do = f"make it writable (chmod u+rwx {nearest}), or set AIMASS_HOME to another folder"
        yield Finding(Grade.BAD, what, f"{nearest} cannot be written", do)
    elif folder.exists() and folder.stat().st_mode & 0o077:
        yield Finding(Grade.BAD, what, "other users of this machine can read it", f"chmod 700 {folder}")
    else:
        yield Finding(Grade.GOOD, what, "exists" if folder.exists() else "is created at the first start")


def disk(folder: Path, percent: str = "") -> Finding:
    """There is room for data: `percent` is how full the services let the disk become, 90 if empty."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    _, taken, free = shutil.disk_usage(nearest)
    text, used, most = f"{free / 2**30:.1f} GiB free", 100 * taken // max(taken + free, 1), percent or "90"
    room = f"free space on the disk of {nearest}, or set AIMASS_HOME to a folder on another disk"
    if free < _NOTHING:
        return Finding(Grade.BAD, "disk", text, room)
    if most.isdecimal() and int(most) < 100 and used >= int(most):
        rule = f"uploads, data sets and logs are refused from {most} % on"
        return Finding(Grade.BAD, "disk", f"{text}, {used} % used", f"{rule}: {room}, or raise AIMASS_DISK_PERCENT")
    if free < _LITTLE:
        return Finding(Grade.POOR, "disk", text, "enough to start; data sets and logs will need more")
    return Finding(Grade.GOOD, "disk", text)


def secrets(folder: Path, env: Mapping[str, str]) -> Iterator[Finding]:
    """Only their owner can read the files with keys."""
    for path in [*(folder / name for name in _SECRETS), config_file(env)]:
        if not path.exists():
            continue
        if path.stat().st_mode & 0o077:
            do = f"chmod 600 {path}; if others use this machine, create a new key and revoke this one"
            yield Finding(Grade.BAD, "key file", f"{path} can be read by others", do)
        elif not os.access(path, os.R_OK):
            yield Finding(
                Grade.BAD, "key file", f"{path} cannot be read", f"it belongs to {path.owner()}: run as that user"
            )


def lock(folder: Path) -> Finding:
    """No process holds the databases. Checked only if no gateway answers."""
    for path in sorted(folder.glob("*.lock")):
        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                do = "another process of AI Mass still runs: stop it, or set AIMASS_HOME to another folder"
                return Finding(
                    Grade.BAD, "databases", f"{path.with_suffix('').name} is in use, but no gateway answers", do
                )
    return Finding(Grade.GOOD, "databases", "not in use")


def ports(env: Mapping[str, str]) -> Iterator[Finding]:
    """The gateway's ports are free. Checked only if no gateway answers."""
    host = env.get("AIMASS_GATEWAY_HOST", "127.0.0.1")
    for variable, default in _PORTS.items():
        text = env.get(variable, str(default))
        if not text.isdecimal() or int(text) > 65535:
            yield Finding(Grade.BAD, variable, f"{text!r} is not a port", f"set {variable} to a number from 0 to 65535")
            continue
        port = int(text)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((host, port))
            except OSError as error:
                named = f"ss -ltnp 'sport = {port}' names it"
                do = f"stop the program that uses it ({named}), or set {variable} to another port"
                yield Finding(Grade.BAD, f"port {port}", f"busy: {error.strerror}".lower(), do)
                continue
        yield Finding(Grade.GOOD, f"port {port}", "free")


def gateway(door: Door | Failure) -> Finding:
    """It answers, and accepts the key."""
    if isinstance(door, Failure):
        return Finding(Grade.POOR, "gateway", door.detail)
    try:
        # The token of a login is renewed as for any other command.
        with Client(door.url, None if door.grant else door.key, ca=door.ca or None) as client:
            who = client.run(unary("access", "who_am_i", timeout=3.0))
    except Failure as failure:
        if failure.code == "login_ended":
            return Finding(Grade.BAD, "gateway", f"{door.url}: the login has ended", failure.detail)
        if failure.status:
            do = f"run `aimass login {door.url}` with another key"
            return Finding(Grade.BAD, "gateway", f"{door.url} refuses: {failure.detail}", do)
        do = "start it with `aimass up`, or use another one with `aimass login`"
        if failure.detail.endswith(STRANGE):
            do = f"set AIMASS_CA to the PEM file of its authority, or run `aimass login {door.url} --ca FILE`"
        return Finding(Grade.BAD, "gateway", f"{failure.detail} (address from {door.origin})", do)
    return Finding(Grade.GOOD, "gateway", f"{door.url} knows you as {who.principal} of tenant {who.tenant}")


def _door(env: Mapping[str, str]) -> Door | Failure:
    try:
        return find(env=env)
    except Failure as failure:
        return failure


def _answers(door: Door) -> bool:
    return gateway(door).grade is Grade.GOOD
