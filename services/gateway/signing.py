"""HTTP message signatures (RFC 9421) and content digests (RFC 9530), in the one strict form that is taken.

It parses the signature headers and makes the signature base; it decides nothing.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

_LONGEST = 4096  # bytes of either header
_T = TypeVar("_T")
_LARGE = 2**20  # bytes above which a digest is made beside the loop
# No spaces but those that a serializer writes: the text as it came is then the one that was signed.
_INPUT = re.compile(
    r'([a-z][a-z0-9_-]{0,31})=(\(("[@a-z0-9-]+"(?: "[@a-z0-9-]+")*)\)'
    r'((?:;[a-z]+=(?:[0-9]{1,12}|"[ !#-\[\]-~]{0,256}"))+))\Z'
)
_PARAMETER = re.compile(r';([a-z]+)=(?:([0-9]+)|"([^"]*)")')
_SIGNATURE = re.compile(r"([a-z][a-z0-9_-]{0,31})=:([A-Za-z0-9+/]{43,88}={0,2}):\Z")
_DIGEST = re.compile(r"(sha-256|sha-512)=:([A-Za-z0-9+/]{43,86}={1,2}):\Z")
_KNOWN = frozenset(("created", "expires", "nonce", "alg", "keyid", "tag"))
_ALGORITHMS: dict[str, Callable[[bytes], bytes]] = {
    "sha-256": lambda content: hashlib.sha256(content).digest(),
    "sha-512": lambda content: hashlib.sha512(content).digest(),
}


class Stated(NamedTuple):
    """The signature of a request, parsed. Times are Unix seconds."""

    components: tuple[str, ...]
    parameters: str  # with the components, as the signature covers them
    key_id: str
    nonce: str
    created: int
    expires: int | None
    algorithm: str  # empty: not said
    signature: bytes


def stated(field: str, signature: str) -> Stated:
    """Reads `Signature-Input` and `Signature`: one signature. Raises ValueError, which says what is wrong with them."""
    if max(len(field), len(signature)) > _LONGEST:
        raise ValueError("the signature is too long")
    match, signed = _INPUT.match(field), _SIGNATURE.match(signature)
    if not match or not signed or match[1] != signed[1]:
        raise ValueError("there is not one signature with its parameters")
    components = tuple(name.strip('"') for name in match[3].split(" "))
    found = _PARAMETER.findall(match[4])
    values = {name: number or text for name, number, text in found}
    if len(set(components)) < len(components) or len(values) < len(found):
        raise ValueError("something is there twice")
    if not {"created", "keyid", "nonce"} <= values.keys() <= _KNOWN:
        raise ValueError("parameters are missing, or unknown")
    try:
        created, expires = int(values["created"]), int(values["expires"]) if "expires" in values else None
        content = base64.b64decode(signed[2], validate=True)
    except (ValueError, binascii.Error):
        raise ValueError("a parameter or the signature is not of its kind") from None
    if base64.b64encode(content).decode() != signed[2]:  # its last letter has bits that say nothing
        raise ValueError("the signature is not written as it is always written")
    algorithm = values.get("alg", "")
    return Stated(components, match[2], values["keyid"], values["nonce"], created, expires, algorithm, content)


def base(components: tuple[str, ...], parameters: str, value: Callable[[str], str]) -> bytes:
    """What is signed (RFC 9421, section 2.5); `value` gives that of a component."""
    lines = [f"{identifier(name)}: {value(name)}\n" for name in components]
    return f'{"".join(lines)}"@signature-params": {parameters}'.encode("latin-1")


def identifier(component: str) -> str:
    """A component as it is written: `@method;req` is the method of the request that an answer belongs to."""
    name, _, of = component.partition(";")
    return f'"{name}";{of}' if of else f'"{name}"'


async def beside(work: Callable[[bytes], _T], content: bytes) -> _T:
    """The result of `work` on a content; a large one is worked on in a thread."""
    return await asyncio.to_thread(work, content) if len(content) > _LARGE else work(content)


def digest(content: bytes) -> str:
    """The `Content-Digest` of a body."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def fits(digest: str, content: bytes) -> bool:
    """Whether a `Content-Digest` is that of the content: all that it names, and at least one."""
    found = [_DIGEST.match(part.strip()) for part in digest.split(",")[:4]]
    return all(
        one is not None and hmac.compare_digest(base64.b64encode(_ALGORITHMS[one[1]](content)), one[2].encode())
        for one in found
    )
