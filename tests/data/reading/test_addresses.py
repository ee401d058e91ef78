"""One form for all addresses of a page, and which are of a site."""

import pytest

from services.data.reading.addresses import is_trap, normal, site_of
from services.kit.errors import InvalidValue

BASE = "https://a.example/docs/guide/page?x=1"


@pytest.mark.parametrize(
    ("link", "found"),
    [
        ("other", "https://a.example/docs/guide/other"),
        ("../up#part", "https://a.example/docs/up"),
        ("./../../../..", "https://a.example/"),
        ("?y=2", "https://a.example/docs/guide/page?y=2"),
        ("#part", BASE),
        ("", BASE),
        ("//A.EXAMPLE:443", "https://a.example/"),
        ("HTTPS://a.example./x", "https://a.example/x"),
        ("https://a.example:8443/x", "https://a.example:8443/x"),
        (" /a b\tc\n ", "https://a.example/a%20bc"),
        ("/%7ejoe/%2f%c3%a4?q=%41", "https://a.example/~joe/%2F%C3%A4?q=A"),
        ("/ä?ö=ü", "https://a.example/%C3%A4?%C3%B6=%C3%BC"),
        ("/100%", "https://a.example/100%25"),
        ("/a/./b/../c//d", "https://a.example/a/c//d"),
        ("/a;jsessionid=1F?b=2&PHPSESSID=3&c", "https://a.example/a?b=2&c"),
        ("/a?session_id=3", "https://a.example/a"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("\\x", "https://a.example/docs/guide/%5Cx"),
    ],
)
def test_an_address_has_one_form(link: str, found: str) -> None:
    assert normal(BASE, link) == found
    assert normal(found, found) == found


@pytest.mark.parametrize(
    "link",
    [
        *(
            "mailto:a@b.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://a.example/",
            "https://u:p@a.example/",
        ),
        *("https://a.example:99999/", "https://[::1", "x" * 5000, "/" + "y" * 1100, "https://a..\udc80/"),
    ],
)
def test_what_is_no_page_has_none(link: str) -> None:
    assert normal(BASE, link) is None


def test_a_site_is_a_scheme_a_host_a_port_and_a_prefix() -> None:
    site = site_of("https://A.example/docs/x", "/docs/")
    assert (site.origin, site.host, site.port) == ("https://a.example", "a.example", 443)
    assert site.joined(BASE, "/docs/y") == "https://a.example/docs/y"
    for link in ("/other", "http://a.example/docs/", "https://a.example:444/docs/", "//a.example.evil.example/docs/"):
        assert site.joined(BASE, link) is None
    assert site.joined(BASE, "/other", anywhere=True) == "https://a.example/other"
    assert site.joined(BASE, "/docs/../other") is None
    for url in ("https://a.example/ x", "a.example", "https://a.exämple/", "https://x@a.example/", "https://a\\b/"):
        with pytest.raises(InvalidValue):
            site_of(url, "")


def test_paths_that_repeat_themselves_are_traps() -> None:
    assert is_trap("https://a.example/x/y/x/y/x/y/x")
    assert is_trap("https://a.example/" + "/".join(map(str, range(40))))
    assert not is_trap("https://a.example/x/y/x/y/x/y?x/x/x/x/x/x")
