"""Removes secrets from text before it is written anywhere (RELIABILITY A33)."""

import re

REDACTED = "[redacted]"
_KEYS = r"password|passwd|secret|signing_secret|client_secret|api_key|apikey|access_token|refresh_token|private_key"
# The first group of each pattern stays, so that a reader sees what kind of secret was removed.
_PATTERN = re.compile(
    r"(?P<a>\b(?:aim|aimsig|whsec)_)[A-Za-z0-9+/=_.-]{6,}"
    r"|(?P<b>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{6,}"
    r"|(?P<c>://[^\s/:@]{0,200}:)[^\s/@]{1,500}(?=@)"
    rf"|(?P<d>\b(?:{_KEYS})\"?\s{{0,3}}[=:]\s{{0,3}}\"?)[^\s\"&,;}}]{{1,500}}"
    r"|(?P<e>\beyJ)[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*"
    r"|(?P<f>-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-]{1,8000}",
    re.IGNORECASE,
)


# Most texts are ids, and no pattern matches these letters alone.
_ID = re.compile(r"[0-9a-f-]*\Z")


def redact(text: str) -> str:
    """The text without API keys, webhook secrets, tokens, private keys, and passwords in URLs and assignments."""
    if _ID.match(text):
        return text
    return _PATTERN.sub(lambda match: f"{match[match.lastgroup or 0]}{REDACTED}", text)
