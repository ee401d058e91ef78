"""A provider that gives refresh tokens. Each is good once; one that comes again is a theft, and ends the login."""

import secrets
import threading
from typing import Any

from tests.gateway.providing import CLIENT, Fields, Provider

Answer = tuple[int, dict[str, Any]]


class Renewing(Provider):
    """Tokens of one login are a family: its number is what a refresh token stands for."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self.reset()
        super().__init__()

    def reset(self) -> None:
        """Everything as at the beginning, apart from logins."""
        self.known, self.identity = {}, {}
        self.access: dict[str, Any] = {}  # what access tokens say otherwise
        self.back = self.given = lambda fields: fields
        self.fails: Answer | None = None  # said to who asks for a renewal
        self.rotates = True
        self.families: dict[str, int] = {}
        self.spent: dict[str, int] = {}
        self.shown: list[str] = []  # refresh tokens, in the order in which they came
        self.withdrawn: list[str] = []
        self.answers = threading.Event()  # not before it is set
        self.answers.set()

    def token(self, kid: str = "one", key: Any = None, **changes: Any) -> str:
        """No two are the same."""
        return super().token(kid, key, **({"jti": secrets.token_urlsafe(8)} | changes))

    def began(self) -> str:
        """The refresh token of another login."""
        with self._one:
            return self._next(len(self.families) + len(self.spent) + 1)

    def document(self, path: str) -> bytes:
        self.known = {"revocation_endpoint": f"{self.url}/revoke"} | self.known
        return super().document(path)

    def answer(self, path: str, shown: Fields) -> Answer:
        with self._one:
            answer = self._answer(path, shown)
        self.answers.wait(30)
        return answer

    def _answer(self, path: str, shown: Fields) -> Answer:
        if path == "/realm/revoke":
            assert shown["client_id"] == CLIENT
            self.withdrawn.append(shown["token"])
            self.families.pop(shown["token"], None)
            return 200, {}
        if shown.get("grant_type") == "refresh_token":
            return self._renewed(shown)
        status, answer = self.exchange(shown)
        return status, answer | {"refresh_token": self._next(0), "expires_in": 600} if status == 200 else answer

    def _renewed(self, shown: Fields) -> Answer:
        assert shown.keys() == {"grant_type", "refresh_token", "client_id"}
        assert shown["client_id"] == CLIENT
        token = shown["refresh_token"]
        self.shown.append(token)
        if self.fails:
            return self.fails
        if token in self.spent:
            stolen = self.spent[token]
            self.families = {one: family for one, family in self.families.items() if family != stolen}
        if token not in self.families:
            return 400, {"error": "invalid_grant"}
        answer = {"access_token": self.token(**self.access), "token_type": "Bearer", "expires_in": 600}
        answer["id_token"] = self.token(aud=CLIENT, **self.identity)
        if self.rotates:
            family = self.spent[token] = self.families.pop(token)
            answer["refresh_token"] = self._next(family)
        return 200, self.given(answer)

    def _next(self, family: int) -> str:
        token = secrets.token_urlsafe(16)
        self.families[token] = family
        return token
