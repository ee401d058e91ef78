"""The two secrets of an installation: the pepper of all keys, and the first key.

A gateway alone keeps them as files; several are given the same.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from services.gateway.access.domain import prefix_of
from services.kit.config import ConfigError
from services.kit.secrets import key_of

_PEPPER = 32  # bytes


@dataclass(frozen=True)
class Given:
    """Secrets of the settings; None where the installation makes its own."""

    pepper: bytes | None = None
    admin_key: str | None = None

    @classmethod
    def of(cls, pepper: str, admin_key: str) -> "Given":
        """Raises ConfigError for what is no pepper or no key."""
        if admin_key and not prefix_of(admin_key):
            raise ConfigError("AIMASS_GATEWAY_ADMIN_KEY: must be aim_, 8 letters or digits, _, and 43 characters")
        return cls(key_of(pepper, "AIMASS_GATEWAY_PEPPER") if pepper else None, admin_key or None)


def pepper(folder: Path, new: bytes, needed: bool) -> bytes:
    """The installation's pepper; `new` if there is none yet. Raises ConfigError if keys need one that is gone."""
    path = folder / "pepper"
    if path.exists():
        found = path.read_bytes()
        if len(found) != _PEPPER:
            raise ConfigError(f"{path} is damaged: it must have {_PEPPER} bytes")
        return found
    if needed:
        raise ConfigError(f"{path} is gone, and without it no key can be verified: restore it from a backup")
    write_secret(path, new)
    return new


def first_secret(path: Path, new: str) -> str:
    """The secret of the first key: what a start that did not come to its end wrote, or `new`, which is written."""
    if path.exists() and prefix_of(found := path.read_text().strip()):
        return found
    write_secret(path, f"{new}\n".encode())
    return new


def write_secret(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read; it is there as a whole, and on the disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    passing = path.with_name(f".{path.name}.{os.getpid()}")
    passing.unlink(missing_ok=True)
    descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    passing.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
