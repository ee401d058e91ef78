"""Refused tokens: the failure, and a counter of them."""

from prometheus_client import Counter

from services.kit.errors import Code, Unauthenticated
from services.kit.telemetry import REGISTRY

refused = Counter("aimass_tokens_refused", "Tokens of issuers that were not taken.", registry=REGISTRY)


class TokenRefused(Unauthenticated, preset=Code.TOKEN_INVALID):
    """The one answer to every refused token; `reason` is for the log only."""

    def __init__(self, reason: str) -> None:
        super().__init__("the token is not valid")
        self.reason = reason


class UnknownKey(TokenRefused):
    """The issuer is not known to have the key that a token names."""

    def __init__(self, issuer: str) -> None:
        super().__init__("no key of its issuer has this id")
        self.issuer = issuer
