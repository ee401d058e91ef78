"""Secrets at rest: sealed with the installation's key, `<home>/keys/secrets.key`, which only its owner can read."""

import os
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12
_VERSION = b"\x01"


class Vault:
    """Seals and opens secrets with AES-256-GCM. Every process of an installation shares the key."""

    def __init__(self, folder: Path) -> None:
        """The key lies in `folder` as `secrets.key`, mode 0600; it is made when it is first needed."""
        self._file = folder / "secrets.key"

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

    @cached_property
    def _cipher(self) -> AESGCM:
        if not self._file.exists():
            self._make()
        return AESGCM(self._file.read_bytes())

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
        folder = os.open(self._file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
