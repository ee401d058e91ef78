"""The issuers whose tokens are taken: AIMASS_GATEWAY_ISSUERS_FILE, which may change while the gateway runs."""

import logging
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.kit.config import ConfigError

log = logging.getLogger(__name__)
SETTING = "AIMASS_GATEWAY_ISSUERS_FILE"
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}\z")]
Text = Annotated[str, Field(min_length=1, max_length=512)]


class Issuer(BaseModel):
    """Who makes tokens, and what they are worth here. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # What `iss` says, letter for letter; `/.well-known/openid-configuration` below it is the discovery document.
    url: Annotated[str, Field(pattern=r"^https?://[!-~]+\z", max_length=512)]
    # What `aud` has to name.
    audience: Text
    tenant: Name
    # The one that its tokens are signed with; it says which keys of the issuer may be used.
    algorithm: Algorithm
    # How far its clock may be from ours.
    leeway: Annotated[float, Field(ge=0, le=60)] = 30.0
    # How long a token may live.
    longest: Annotated[float, Field(ge=60, le=604_800)] = 86_400.0
    # The claim with the groups, or the way to it: ["realm_access", "roles"].
    groups_claim: Text | Annotated[tuple[Text, ...], Field(min_length=1, max_length=8)] = "groups"
    # The roles of the tenant that a group has.
    groups: dict[Text, tuple[Name, ...]] = {}


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    issuers: Annotated[dict[Name, Issuer], Field(max_length=64)] = {}


class IssuerTable:
    """What the file says, by the name of the issuer."""

    def __init__(self, file: Path) -> None:
        """Raises ConfigError for a file that is no table."""
        self._file, self._stamp = file, _stamp(file)
        self.issuers = _read(file)

    def look(self) -> bool:
        """Takes over what the file says now; True if that is something else. What is no table changes nothing."""
        if (stamp := _stamp(self._file)) == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.issuers = _read(self._file)
        except ConfigError as error:
            log.error("the issuers stay as they were: %s", error)
            return False
        log.info("the issuers are taken over from %s", self._file)
        return True


def _stamp(file: Path) -> Any:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(file: Path) -> dict[str, Issuer]:
    try:
        found = _File.model_validate(tomllib.loads(file.read_text())).issuers
    except OSError as error:
        raise ConfigError(f"{SETTING}: {file} cannot be read: {(error.strerror or '').lower()}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{SETTING}: {file} is no TOML: {str(error).lower()}") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors())
        raise ConfigError(f"{SETTING}: {file}: {wrong}") from None
    _check(file, found)
    return found


def _check(file: Path, issuers: dict[str, Issuer]) -> None:
    seen = set[tuple[str, str]]()
    for name, issuer in issuers.items():
        if issuer.tenant == "system":
            raise ConfigError(f"{SETTING}: {file}: issuers.{name}.tenant: system is the platform's own")
        if (issuer.url, issuer.audience) in seen:
            raise ConfigError(f"{SETTING}: {file}: issuers.{name}: another issuer has the same url and audience")
        seen.add((issuer.url, issuer.audience))
