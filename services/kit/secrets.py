"""Secrets at rest, encrypted with the installation's secrets key, `<home>/keys/secrets.key`.

While the key is changed there are several: the first one encrypts, all of them decrypt.
"""

import base64
import contextlib
import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.kit.config import ConfigError
from services.kit.disk import sync

_NONCE = 12
_KEY = 32  # bytes
_TAG = 16
_NAMED = b"\x02"  # followed by the name of the key
_ID = 8  # bytes


def key_of(text: str, setting: str) -> bytes:
    """The 32 bytes of a setting in base64. Raises ConfigError."""
    with contextlib.suppress(ValueError):
        if len(found := base64.b64decode(text, validate=True)) == _KEY:
            return found
    raise ConfigError(f"{setting}: must be {_KEY} bytes as base64")


def keys_of(text: str, setting: str) -> list[bytes]:
    """As `key_of`, for several, comma-separated."""
    return [key_of(one.strip(), setting) for one in text.split(",") if one.strip()]


class Vault:
    """Encrypts and decrypts secrets with AES-256-GCM. All processes of an installation share the keys."""

    def __init__(self, folder: Path, given: str = "", old: str = "") -> None:
        """The key is `given` (32 bytes as base64), or in `folder` as `secrets.key`, created when it is first needed.

        `old` are keys that only decrypt, comma-separated; without them, those in `folder` as `secrets.<n>.key`. Raises
        ConfigError for an invalid key.
        """
        self._file, self._given = folder / "secrets.key", key_of(given, "AIMASS_SECRETS_KEY") if given else b""
        self._old = keys_of(old, "AIMASS_SECRETS_OLD_KEYS")

    def seal(self, secret: bytes, context: str) -> bytes:
        """Encrypts a secret for a database. It is bound to its context, so rows cannot be swapped."""
        key, nonce = self._key, os.urandom(_NONCE)
        return _NAMED + _id(key) + nonce + AESGCM(key).encrypt(nonce, secret, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypts a secret. Raises ValueError if key, context or bytes are not those of `seal`."""
        match sealed[:1]:
            case b"\x01":  # from before keys had ids
                keys, rest = self._keys(), sealed[1:]
            case b"\x02":
                keys, rest = [key for key in self._keys() if _id(key) == sealed[1 : 1 + _ID]], sealed[1 + _ID :]
            case _:
                raise ValueError("the secret has an unknown format")
        for key in keys if len(rest) >= _NONCE + _TAG else ():
            with contextlib.suppress(InvalidTag):
                return AESGCM(key).decrypt(rest[:_NONCE], rest[_NONCE:], context.encode())
        raise ValueError("the secret cannot be decrypted with any given key")

    @property
    def has_old(self) -> bool:
        """Whether there are old keys."""
        return bool(self._old or self._beside())

    def is_current(self, sealed: bytes) -> bool:
        """Whether this is encrypted with the current key."""
        return sealed[: 1 + _ID] == _NAMED + _id(self._key)

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, derived from the secrets key by HKDF: the same in every process."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), _KEY, None, purpose.encode()).derive(self._key)

    @property
    def _key(self) -> bytes:
        """The current key. That of the folder may be changed while processes run."""
        if self._given:
            return self._given
        if not self._file.exists():
            self._make()
        return self._file.read_bytes()

    def _keys(self) -> list[bytes]:
        """All keys, the current one first."""
        return [self._key, *self._old, *(path.read_bytes() for path in self._beside())]

    def _beside(self) -> list[Path]:
        """Old keys in the folder."""
        return [] if self._given else sorted(self._file.parent.glob("secrets.*.key"))

    def _make(self) -> None:
        """Creates the key. Of two processes at once the first one wins: a link is atomic."""
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


def _id(key: bytes) -> bytes:
    """The id of a key in what it encrypts: a digest."""
    return hashlib.sha256(b"aimass secrets key\0" + key).digest()[:_ID]
