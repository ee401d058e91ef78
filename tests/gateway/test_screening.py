from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import screening
from services.gateway.screening import Screen, request_id
from services.kit.errors import Code, Failure

OURS = (b"host", b"localhost:8080")


def check(*headers: tuple[bytes, bytes], target: int = 10, screen: Screen | None = None) -> None:
    sent = [OURS, *headers] if not any(name == b"host" for name, _ in headers) else list(headers)
    (screen or Screen([], [])).check(target, sent, dict(sent))


def code(*headers: tuple[bytes, bytes], target: int = 10, screen: Screen | None = None) -> Code:
    with pytest.raises(Failure) as caught:
        check(*headers, target=target, screen=screen)
    return caught.value.code


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "127.1.2.3", "LOCALHOST:1"])
def test_loopback_is_ours(host: str) -> None:
    check((b"host", host.encode()))


@pytest.mark.parametrize(
    "host", ["evil.example", "", "127.0.0.1.evil.example", "localhost@evil.example", "evil.example:8080", "127.0.0.1/x"]
)
def test_another_host_is_misdirected(host: str) -> None:
    assert code((b"host", host.encode())) is Code.MISDIRECTED


def test_a_named_host_is_ours_and_a_star_names_all() -> None:
    check((b"host", b"Api.Example:443"), screen=Screen(["api.example"], []))
    check((b"host", b"whatever"), screen=Screen(["*"], []))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"origin", b"https://evil.example")],
        [(b"origin", b"null")],
        [(b"origin", b"http://localhost:3000")],
        [(b"sec-fetch-site", b"cross-site")],
        [(b"sec-fetch-site", b"same-site")],
        [(b"origin", b"http://localhost:8080"), (b"sec-fetch-site", b"cross-site")],
        [(b"origin", b"http://localhost:8080.evil.example")],
        [(b"sec-fetch-site", b"none"), (b"origin", b"http://127.0.0.1:8080")],
    ],
)
def test_a_page_of_another_origin_may_not_call(headers: list[tuple[bytes, bytes]]) -> None:
    assert code(*headers) is Code.ORIGIN_DENIED


def test_our_own_pages_and_named_origins_may() -> None:
    check((b"origin", b"http://localhost:8080"), (b"sec-fetch-site", b"same-origin"))
    named = Screen([], ["https://console.example"])
    check((b"origin", b"https://console.example"), (b"sec-fetch-site", b"cross-site"), screen=named)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/v1/models/late", "/v1/models/late"),
        (b"/v1/%6Dodels", "/v1/models"),
        (b"/a%2Fb/c%2fd", "/a%2Fb/c%2fd"),
        (b"/a%3Aundelete", "/a%3Aundelete"),
        (b"/a:undelete", "/a:undelete"),
        (b"/a%252Fb", "/a%252Fb"),
        (b"/caf%C3%A9%2F%C3%A9", "/caf\u00e9%2F\u00e9"),
        (b"/%", "/%"),
        (b"/%2", "/%2"),
        (b"/%zz%2f", "/%zz%2f"),
    ],
)
def test_a_path_keeps_what_is_encoded_to_be_no_path(raw: bytes, path: str) -> None:
    assert screening.path(raw) == path


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5))
def test_a_path_has_as_many_parts_as_were_written_and_each_is_found_again(parts: list[str]) -> None:
    raw = "/".join(quote(part.encode(errors="replace"), safe="") for part in parts).encode()
    found = screening.path(raw).split("/")

    assert [unquote(part) for part in found] == [part.encode(errors="replace").decode() for part in parts]
    assert not any(":" in part for part in found)


def test_too_many_and_too_large_headers_are_refused() -> None:
    assert code(*[(b"x-%d" % n, b"") for n in range(101)]) is Code.HEADERS_TOO_LARGE
    assert code((b"x-long", b"a" * 40_000)) is Code.HEADERS_TOO_LARGE
    assert code(target=20_000) is Code.HEADERS_TOO_LARGE


@pytest.mark.parametrize("name", [b"authorization", b"content-length", b"x-project", b"idempotency-key"])
def test_a_header_that_decides_may_be_there_once(name: bytes) -> None:
    assert code((name, b"1"), (name, b"2")) is Code.BAD_FRAMING


def test_two_lengths_are_no_framing() -> None:
    assert code((b"content-length", b"1"), (b"transfer-encoding", b"chunked")) is Code.BAD_FRAMING


def test_compressed_requests_are_not_read() -> None:
    assert code((b"content-encoding", b"gzip")) is Code.UNSUPPORTED_MEDIA_TYPE


def test_a_sane_request_id_is_kept_and_another_is_replaced() -> None:
    assert request_id({b"x-request-id": b"my-job:17"}) == "my-job:17"
    assert request_id({b"x-request-id": b"a b\n"}) != "a b\n"
    assert len(request_id({b"x-request-id": b"x" * 500})) == 36
