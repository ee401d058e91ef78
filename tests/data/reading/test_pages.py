"""What pages say: text, title and links, whatever they are written in and however they are broken."""

import time

import pytest

from services.data.reading import pages

RUSSIAN = "\u041f\u0440\u0438\u0432\u0435\u0442"


def test_text_title_links_and_the_base_of_a_page() -> None:
    found = pages.page(
        """<!doctype html><head><base href="/docs/"><base href="/no"><title> A &amp;
        B </title><title>no</title><style>p{}</style><script>var a="<a href=no>"</script></head>
        <h1>One</h1><p>two <b>three</b>&nbsp;four<br>five<!-- <a href="no"> --><a href=x>six</a>
        <area href='y&amp;z'><a>none</a><a rel="Ugc NoFollow" href=no>seven</a><svg><title>no</title></svg>"""
    )
    assert (found.title, found.base, found.links) == ("A & B", "/docs/", ["x", "y&z"])
    assert found.text == "One\ntwo three four\nfivesix\nnoneseven"
    assert (found.cut, found.follow, found.index) == (False, True, True)


@pytest.mark.parametrize(
    ("content", "follow", "index"),
    [("noindex, NoFollow", False, False), ("none", False, False), ("nofollow", False, True), ("all", True, True)],
)
def test_what_a_page_asks_of_robots(content: str, follow: bool, index: bool) -> None:
    found = pages.page(f'<meta content="{content}" name="ROBOTS"><meta name=viewport content=none>')
    assert (found.follow, found.index) == (follow, index)


def test_what_a_page_has_too_much_of_is_left_out() -> None:
    found = pages.page("<p>word</p>" * 40_000 + "<a href=x>" * 6000)
    assert (len(found.text), len(found.links), found.cut) == (pages.TEXT, 5000, True)


@pytest.mark.parametrize("piece", ["<a b=c ", "<!--", "<a ", "<script>x</scrip", "<a x='", "</", "&#1", "<![CDATA["])
def test_a_page_that_is_written_to_take_for_ever_does_not(piece: str) -> None:
    began = time.thread_time()
    pages.page(f"<a href=x>y</a>{piece * 150_000}", seconds=0.3)
    pages.locations(piece * 150_000, seconds=0.3)
    assert time.thread_time() - began < 6


@pytest.mark.parametrize("wrong", ["<![foo[x]]>", "<![>", f"&#{'1' * 5000};", f"<a href='&#{'1' * 5000};'>"])
def test_a_page_that_no_parser_takes_is_read_up_to_there(wrong: str) -> None:
    far = f"<!--{'.' * 70_000}-->{wrong}"
    found = pages.page(f"<title>One</title><a href=x>two</a>{far}<a href=y>three</a>")
    assert (found.title, found.links[0], found.text[:3]) == ("One", "x", "two")
    assert found.cut or found.links == ["x", "y"]
    locs = [f"<url><loc>https://a.example/{number}</loc></url>" for number in range(2)]
    assert pages.locations(far.join(locs))[1][0] == "https://a.example/0"


@pytest.mark.parametrize(
    ("body", "said", "text"),
    [
        ("Müller".encode(), "text/html", "Müller"),
        ("Müller".encode("latin-1"), "text/html", "Müller"),
        ("Müller".encode(), "text/html; charset=utf-16", "Müller"),
        ("Müller".encode(), 'text/html; charset="zip"', "Müller"),
        ("Müller".encode(), "text/html; charset=unicode_escape", "Müller"),
        ("Müller".encode("latin-1"), "text/html; charset=UTF-8", "Müller"),
        (RUSSIAN.encode("cp1251"), "text/html; charset=windows-1251", RUSSIAN),
        (b'<meta charset="koi8-r">' + RUSSIAN.encode("koi8-r"), "text/html", f'<meta charset="koi8-r">{RUSSIAN}'),
        (f"\ufeff{RUSSIAN}".encode("utf-16-le"), "text/html; charset=latin-1", RUSSIAN),
        ("日本".encode("shift_jis"), "text/html;charset=Shift_JIS", "日本"),
        ("Mü".encode()[:-1], "text/html", "M"),
    ],
)
def test_text_is_read_as_it_is_written_whatever_it_says(body: bytes, said: str, text: str) -> None:
    assert pages.decoded(body, said) == text


def test_bytes_that_are_no_text_are_none() -> None:
    assert pages.decoded(b"\x89PNG\0\0", "text/html; charset=utf-8") is None


def test_a_sitemap_names_pages_and_other_sitemaps() -> None:
    text = "<urlset><url><loc>https://a.example/1</loc><lastmod>2026</lastmod></url><sitemap><loc>x</loc></sitemap>"
    assert pages.locations(text) == (["x"], ["https://a.example/1"])
    assert pages.locations('<!ENTITY a "b"><url><loc>&a;</loc>')[1] == ["&a;"]
