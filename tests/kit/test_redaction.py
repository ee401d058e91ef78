import pytest

from services.kit.redaction import redact

SECRETS = [
    ("key aim_0123456789abcdef was used", "0123456789abcdef"),
    ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ("Authorization: Bearer abc.def-ghi_123", "abc.def-ghi_123"),
    ("authorization: Basic YWltOnNlY3JldA==", "YWltOnNlY3JldA"),
    ("signed with aimsig_0123456789abcdef", "0123456789abcdef"),
    ("postgresql://app:s3cr:et@db.internal/x", "s3cr"),
    ('{"password": "hunter22", "user": "x"}', "hunter22"),
    ("api_key=abcdef&x=1", "abcdef"),
    ("eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJrZXkifQ.c2lnbmF0dXJl", "eyJzdWIiOiJrZXkifQ"),
    ("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==", "MC4CAQAw"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_a_secret_does_not_stay(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert "[redacted]" in redact(text)


@pytest.mark.parametrize(
    "text", ["aims at 3", "a bearer of news", "https://host/path:1@x", "the password was wrong", "10:30"]
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_what_surrounds_a_secret_stays() -> None:
    assert redact("GET https://me:pw@host/x took 3 ms") == "GET https://me:[redacted]@host/x took 3 ms"


def test_long_text_is_cheap() -> None:
    assert redact("://" + "a:" * 50_000) == "://" + "a:" * 50_000
