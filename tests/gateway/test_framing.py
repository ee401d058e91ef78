"""What cannot be read beyond doubt is refused, and costs nobody who asked before it his answer."""

import asyncio
from urllib.parse import urlsplit

import pytest

from tests.fuzz.wire import Answer, ask
from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
BODY = b'{"model":"m","description":"x"}'


def head(gateway: Gateway, *lines: bytes, start: bytes = b"GET /v1/models/m HTTP/1.1") -> bytes:
    own = (start, b"Host: localhost", b"Authorization: Bearer " + gateway.admin.encode())
    return b"\r\n".join((*own, *lines, b"", b""))


async def said(gateway: Gateway, data: bytes) -> list[Answer]:
    return await ask(urlsplit(gateway.doors["http"]).port or 0, data, 2)


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0"])
async def test_another_version_of_http_is_refused(gateway: Gateway, version: bytes) -> None:
    (answer,) = await said(gateway, head(gateway, start=b"GET /v1/models/m " + version))
    assert (answer.status, b"bad_framing" in answer.body) == (400, True)


@pytest.mark.parametrize("codings", [(b"chunked", b"chunked"), (b"chunked;q=1", b"chunked"), (b"gzip, chunked",)])
async def test_no_transfer_encoding_but_one_chunked_is_read(gateway: Gateway, codings: tuple[bytes, ...]) -> None:
    lines = [b"Transfer-Encoding: " + coding for coding in codings]
    sent = head(gateway, *lines, start=b"POST /v1/models HTTP/1.1") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    answers = await said(gateway, sent)
    assert [answer.status for answer in answers] == [400]


async def test_who_asked_before_what_cannot_be_read_is_answered(gateway: Gateway) -> None:
    answers = await said(gateway, head(gateway) + head(gateway) + b"no request\r\n\r\n" + head(gateway))
    assert [answer.status for answer in answers] == [200, 200, 400]
    assert answers[-1].headers[b"connection"] == b"close"


async def test_a_body_that_cannot_be_read_to_its_end_is_refused_behind_earlier_answers(gateway: Gateway) -> None:
    broken = head(gateway, b"Transfer-Encoding: chunked", start=b"POST /v1/models HTTP/1.1") + b"5\r\nab"
    assert [answer.status for answer in await said(gateway, head(gateway) + broken + b"cdefg\r\n")] == [200, 400]
    assert [answer.status for answer in await said(gateway, broken + b"cdefg\r\n")] == [400]


async def test_who_is_answered_already_is_not_answered_again_for_the_rest_of_his_body(gateway: Gateway) -> None:
    lines = (b"POST /v1/models HTTP/1.1", b"Host: localhost", b"Transfer-Encoding: chunked", b"", b"5\r\nab")
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(gateway.doors["http"]).port)
    async with asyncio.timeout(10):
        writer.write(b"\r\n".join(lines))
        came = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"cdefg\r\n")
        rest = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert came.startswith(b"HTTP/1.1 401 ")
    assert b"HTTP/1.1" not in rest
