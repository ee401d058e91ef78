"""Secrets at rest: sealed with the installation's key, `<home>/keys/secrets.key`, which only its owner can read."""

import base64
import contextlib
import os
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.kit.config import ConfigError
from services.kit.disk import sync

_NONCE = 12
_KEY = 32  # bytes
_VERSION = b"\x01"


def key_of(text: str, setting: str) -> bytes:
    """The 32 bytes that a setting has as base64. Raises ConfigError."""
    with contextlib.suppress(ValueError):
        if len(found := base64.b64decode(text, validate=True)) == _KEY:
            return found
    raise ConfigError(f"{setting}: must be {_KEY} bytes as base64")


class Vault:
    """Seals and opens secrets with AES-256-GCM. Every process of an installation shares the key."""

    def __init__(self, folder: Path, given: str = "") -> None:
        """The key is `given` (32 bytes as base64), or lies in `folder` as `secrets.key`, made when it is first needed.

        Raises ConfigError for a given one that is none.
        """
        self._file, self._given = folder / "secrets.key", key_of(given, "AIMASS_SECRETS_KEY") if given else b""

    def seal(self, secret: bytes, context: str) -> bytes:
        """The secret for a database; it opens with the same context only, so rows cannot be swapped."""
        nonce = os.urandom(_NONCE)
        return _VERSION + nonce + self._cipher.encrypt(nonce, secret, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """The secret again. Raises ValueError when key, context or bytes are not those of `seal`."""
        if sealed[:1] != _VERSION:
            raise ValueError("the secret was not sealed by this version")
        nonce, rest = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        try:
            return self._cipher.decrypt(nonce, rest, context.encode())
        except InvalidTag:
            raise ValueError("the secret does not open with this key") from None

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose, the same in every process that has the key, and telling nothing of it (HKDF)."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), _KEY, None, purpose.encode()).derive(self._key)

    @cached_property
    def _key(self) -> bytes:
        if not self._given and not self._file.exists():
            self._make()
        return self._given or self._file.read_bytes()

    @cached_property
    def _cipher(self) -> AESGCM:
        return AESGCM(self._key)

    def _make(self) -> None:
        """Two processes may come at once: a link appears whole or not at all, and the first one stays."""
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        passing = self._file.with_name(f".secrets.{os.getpid()}.{os.urandom(4).hex()}")
        descriptor = os.open(passing, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(AESGCM.generate_key(256))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(passing, self._file)
        except FileExistsError:
            pass
        finally:
            passing.unlink()
        sync(self._file.parent)
