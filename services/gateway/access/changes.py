"""Changes of a key, and the rotation of its secret."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from services.gateway.access.domain import ApiKey, KeyRequest, Replaced, Signing, check, last_administrator
from services.kit.errors import FailedPrecondition, invalid, match_etag

FIELDS = (
    *("display_name", "expire_time", "rate_limit", "signing"),
    *("projects", "permissions", "roles", "addresses", "models", "certificates"),
)
_OVERLAP = timedelta(days=90)


def changed(key: ApiKey, wanted: KeyRequest, fields: Collection[str], etag: str, now: datetime) -> ApiKey:
    """The key with other values of some fields.

    Raises etag_mismatch, failed_precondition for a revoked one, invalid_value, invalid_name.
    """
    match_etag(etag, key.generation, key.api_key)
    _live(key)
    check(wanted, now)
    values = {name: getattr(wanted, name) for name in fields}
    if "signing" in values:
        values["signing"] = _signing(key.signing, wanted.signing)
    return replace(key, **values, generation=key.generation + 1)


def _signing(held: Signing | None, wanted: Signing | None) -> Signing | None:
    if wanted is None or wanted.public_key or held is None:
        return wanted
    return replace(held, required=wanted.required)


def rotated(key: ApiKey, kept: bytes, until: datetime | None, now: datetime) -> ApiKey:
    """The key once its secret, which hashes to `kept`, is replaced by another.

    Raises invalid_value, failed_precondition for a revoked one.
    """
    _live(key)
    if until and not now < until <= now + _OVERLAP:
        rule = f"must be in the future, and in {_OVERLAP.days} days at most"
        raise invalid("/old_expire_time", rule)
    before = Replaced(kept, until) if until else None
    return replace(key, replaced=before, rotate_time=now, generation=key.generation + 1)


def keep_administrator(before: ApiKey, after: ApiKey, keys: Sequence[ApiKey], now: datetime) -> None:
    """Raises failed_precondition if no key would administer the installation, later or from elsewhere."""
    if not last_administrator(keys, before.api_key, now):
        return
    there = [(key.expire_time, key.addresses, key.certificates) for key in (before, after)]
    if not after.administers or there[0] != there[1]:
        raise FailedPrecondition(f"{before.api_key} is the last key that administers: make another one first")


def _live(key: ApiKey) -> None:
    if key.revoke_time:
        raise FailedPrecondition(f"{key.api_key} is revoked")
