"""The channel of webhooks: HTTPS requests, signed as Standard Webhooks."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime

from services.kit.egress import Egress
from services.kit.errors import Code, Failure
from services.kit.secrets import Vault
from services.logs.subscriptions.channel import Answer
from services.logs.subscriptions.domain import BLOCKED, DEAD, DELIVERED, PENDING
from services.logs.subscriptions.service import context_of
from services.logs.subscriptions.store import Due

_LONGEST = 65_536  # bytes of an answer


class Webhooks:
    """Posts to HTTPS addresses, and to those that the operator allows."""

    def __init__(self, egress: Egress, vault: Vault, now: Callable[[], datetime], seconds: float) -> None:
        """`seconds` is the time that a receiver may take."""
        self._egress, self._vault, self._now, self._seconds = egress, vault, now, seconds

    async def check(self, address: str) -> None:
        """Accepts a name that cannot be resolved yet."""
        await self._egress.check(address)

    async def send(self, due: Due) -> Answer:
        """2xx: delivered; 410 Gone: the receiver no longer exists; all else is tried again."""
        try:
            headers = {**due.message.headers, **self._signature(due)}
            answer = await self._egress.request("POST", due.url, headers, due.message.body, self._seconds, _LONGEST)
        except ValueError as error:
            return Answer(0, f"the secret cannot be opened: {error}", BLOCKED)
        except Failure as failure:
            return Answer(0, failure.detail, BLOCKED if failure.code is Code.EGRESS_DENIED else PENDING)
        if 200 <= answer.status < 300:
            return Answer(answer.status, "", DELIVERED)
        state = DEAD if answer.status == 410 else PENDING
        return Answer(answer.status, f"the receiver answered {answer.status}", state)

    def _signature(self, due: Due) -> dict[str, str]:
        secret = self._vault.open(due.secret, context_of(due.scope, due.delivery.subscription))
        name, stamp = due.delivery.delivery, str(int(self._now().timestamp()))
        signed = b".".join([name.encode(), stamp.encode(), due.message.body])
        mark = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        return {"webhook-id": name, "webhook-timestamp": stamp, "webhook-signature": f"v1,{mark}"}
