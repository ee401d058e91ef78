"""The form of signatures, against the examples of RFC 9421 (appendix B.2) and RFC 9530."""

import base64
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.signing import base, fits, stated

GOOD = '("@method" "@path");created=1618884473;keyid="abcdefgh";alg="hmac-sha256";nonce="0123456789abcdef"'
RIGHT = f"a=:{base64.b64encode(bytes(32)).decode()}:"
EXAMPLE = {
    "date": "Tue, 20 Apr 2021 02:07:55 GMT",
    "@method": "POST",
    "@path": "/foo",
    "@authority": "example.com",
    "content-type": "application/json",
    "content-length": "18",
}
BODY = b'{"hello": "world"}'


def test_the_example_of_hmac_sha256_is_right() -> None:
    shared = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
    covered = ("date", "@authority", "content-type")
    parameters = '("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'

    made = hmac.digest(base64.b64decode(shared), base(covered, parameters, EXAMPLE.__getitem__), "sha256")

    assert base64.b64encode(made) == b"pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="


def test_the_example_of_ed25519_is_right() -> None:
    public = base64.urlsafe_b64decode("JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs=")
    signed = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    names = " ".join(f'"{name}"' for name in EXAMPLE)
    parameters = f'({names});created=1618884473;keyid="test-key-ed25519"'

    text = base(tuple(EXAMPLE), parameters, EXAMPLE.__getitem__)

    Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signed), text)  # raises when it is wrong


def test_a_signature_is_read_with_its_parameters() -> None:
    found = stated(f"a={GOOD};expires=1618884533", RIGHT)

    assert found.components == ("@method", "@path")
    assert (found.key_id, found.nonce, found.algorithm) == ("abcdefgh", "0123456789abcdef", "hmac-sha256")
    assert (found.created, found.expires, found.signature) == (1618884473, 1618884533, bytes(32))
    assert found.parameters == f"{GOOD};expires=1618884533"


@pytest.mark.parametrize(
    ("field", "signature"),
    [
        ("", ""),
        (f"a={GOOD}", ""),
        (f"a={GOOD}", "a=?1"),
        (f"a={GOOD}", RIGHT.replace("a=", "b=")),
        (f"a={GOOD}, b={GOOD}", f"{RIGHT}, {RIGHT.replace('a=', 'b=')}"),
        (f"a={GOOD} ", RIGHT),
        (f"a={GOOD.replace(' ', '  ')}", RIGHT),
        (f"a={GOOD.replace('@path', '@method')}", RIGHT),
        (f"a={GOOD.replace('@path', '@PATH')}", RIGHT),
        (f"a={GOOD.replace('@path', '@path;req')}", RIGHT),
        (f'a={GOOD};keyid="other"', RIGHT),
        (f'a={GOOD};odd="x"', RIGHT),
        (f"a={GOOD.replace('created=1618884473;', '')}", RIGHT),
        (f"a={GOOD.replace('nonce', 'tag')}", RIGHT),
        (f"a={GOOD.replace('1618884473', '-1')}", RIGHT),
        (f"a={GOOD.replace('1618884473', '99999999999999')}", RIGHT),
        (f"a={GOOD.replace('1618884473', chr(34) + 'x' + chr(34))}", RIGHT),
        (f"a={GOOD}".replace("0123", '0\\"23'), RIGHT),
        (f"a={GOOD}", "a=:" + "A" * 43 + ":"),
        (f"a={GOOD}", RIGHT.replace("A=", "B=")),  # the same bytes
        (f"a={GOOD}" + ";tag=" + '"' + "x" * 5000 + '"', RIGHT),
    ],
)
def test_what_is_not_one_whole_signature_is_none(field: str, signature: str) -> None:
    with pytest.raises(ValueError, match=r"signature|twice|parameter"):
        stated(field, signature)


@given(st.text(max_size=300), st.text(max_size=100))
def test_nothing_that_is_sent_breaks_the_reader(field: str, signature: str) -> None:
    with pytest.raises(ValueError, match="signature"):
        stated(field, signature)


@pytest.mark.parametrize(
    ("digest", "content", "right"),
    [
        ("sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:", BODY, True),
        (
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
            BODY,
            True,
        ),
        ("sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:", BODY + b" ", False),
        ("sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:, md5=:Sd/dVLAcvNLSq16eXua5uQ==:", BODY, False),
        ("md5=:Sd/dVLAcvNLSq16eXua5uQ==:", BODY, False),
        ("", b"", False),
        (f"sha-256=:{base64.b64encode(hashlib.sha256(b'').digest()).decode()}:", b"", True),
    ],
)
def test_a_digest_fits_if_all_that_it_names_does(digest: str, content: bytes, right: bool) -> None:
    assert fits(digest, content) is right
