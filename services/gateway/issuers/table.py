"""The issuers whose tokens are taken: AIMASS_GATEWAY_ISSUERS_FILE, which may change while the gateway runs."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.kit.toml_table import TomlTable

SETTING = "AIMASS_GATEWAY_ISSUERS_FILE"
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}\z")]
Scope = Annotated[str, Field(pattern=r"^[!#-\[\]-~]{1,200}\z")]
Text = Annotated[str, Field(min_length=1, max_length=512)]


class Login(BaseModel):
    """How people log in with an issuer: as a public client of it, from their own machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: Text
    # What is asked for; whatever makes the issuer say our audience belongs here.
    scopes: Annotated[tuple[Scope, ...], Field(max_length=32)] = ("openid",)


class Issuer(BaseModel):
    """An issuer of tokens, and what they permit here. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # The claim `iss`, letter for letter; `/.well-known/openid-configuration` below it is the discovery document.
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
    # None: people do not log in with it.
    login: Login | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    issuers: Annotated[dict[Name, Issuer], Field(max_length=64)] = {}


class IssuerTable:
    """What the file says, by the name of the issuer."""

    def __init__(self, file: Path) -> None:
        """Raises ConfigError for a file that is no table."""
        self._table = TomlTable("the table of issuers", SETTING, file, _File, _wrong)

    @property
    def issuers(self) -> dict[str, Issuer]:
        return self._table.content.issuers

    def look(self) -> bool:
        """Takes over what the file says now; True if that is something else. What is no table changes nothing."""
        return self._table.look()


def _wrong(content: _File) -> str:
    seen = set[tuple[str, str]]()
    for name, issuer in content.issuers.items():
        if issuer.tenant == "system":
            return f"issuers.{name}.tenant: system is the installation's own"
        if (issuer.url, issuer.audience) in seen:
            return f"issuers.{name}: another issuer has the same url and audience"
        seen.add((issuer.url, issuer.audience))
    return ""
