"""What robots.txt allows, as RFC 9309 says it."""

import time

import pytest

from services.data.reading import robots

AGENT = "aimass-crawler"


def allowed(text: str, *targets: str) -> list[bool]:
    found = robots.parse(text.encode(), AGENT)
    return [found.allows(target) for target in targets]


def test_the_groups_that_name_an_agent_are_one_and_others_do_not_count() -> None:
    text = "User-agent: a\nDisallow: /a\n\nuser-agent: b\nUSER-AGENT: AIMass-Crawler/2.0\ndisallow: /b # not this\n"
    text += "User-agent: *\nDisallow: /\n\nuser-agent:aimass-crawler\nDisallow:/c"
    assert allowed(text, "/a", "/b", "/c", "/d") == [True, False, False, True]
    assert allowed("user-agent: aimass\ndisallow: /\n", "/") == [True]
    assert allowed("user-agent: *\ndisallow: /x\nuser-agent: other\ndisallow: /y", "/x", "/y") == [False, True]


def test_what_is_no_rule_ends_no_list_of_agents_and_an_empty_rule_does() -> None:
    text = "User-agent: aimass-crawler\nSitemap: https://a.example/s\nCrawl-delay: 2\nUser-agent: b\nDisallow: /x"
    assert allowed(text, "/x") == [False]
    assert allowed("user-agent: aimass-crawler\ndisallow:\nuser-agent: b\ndisallow: /", "/x") == [True]
    assert allowed("disallow: /\nuser-agent: *\nallow: /", "/x") == [True]
    assert allowed("", "/x") == allowed("<html>no such thing: /</html>", "/x") == [True]


@pytest.mark.parametrize(
    ("rules", "target", "may"),
    [
        ("disallow: /page\nallow: /pages", "/pages/1", True),
        ("allow: /p\ndisallow: /", "/page", True),
        ("allow: /folder\ndisallow: /folder", "/folder/page", True),
        ("allow: /page\ndisallow: /*.htm", "/page.htm", False),
        ("allow: /$\ndisallow: /", "/", True),
        ("allow: /$\ndisallow: /", "/page.htm", False),
        ("disallow: /*.gif$", "/a/b.gif", False),
        ("disallow: /*.gif$", "/a/b.gif?x", True),
        ("disallow: /a*b*c$", "/a.b.b.c", False),
        ("disallow: /a*b*c$", "/a.c.b", True),
        ("disallow: /ab*b$", "/ab", True),
        ("disallow: /*", "/x", False),
        ("disallow: *.pdf", "/x.pdf", False),
        ("disallow: x", "/xy", False),
        ("disallow: /a%3cd", "/a%3Cd", False),
        ("disallow: /%7Ejoe", "/~joe", False),
        ("disallow: /Ä", "/%C3%84", False),
        ("disallow: /a?x=*&y", "/a?x=1&y=2", False),
        ("disallow: /", "/robots.txt", True),
    ],
)
def test_the_longest_pattern_decides_and_of_two_as_long_the_one_that_allows(rules: str, target: str, may: bool) -> None:
    assert allowed(f"user-agent: *\n{rules}", target) == [may]


def test_a_delay_and_sitemaps_are_read_and_what_is_none_is_not() -> None:
    text = "sitemap: https://a.example/1\nuser-agent: *\ncrawl-delay: 2.5\nuser-agent: *\ncrawl-delay: -1\ndisallow: /x"
    found = robots.parse(text.encode(), AGENT)
    assert (found.delay, list(found.sitemaps)) == (2.5, ["https://a.example/1"])
    assert robots.parse(b"user-agent: *\ncrawl-delay: 1e99\n", AGENT).delay == 0
    assert robots.parse(b"user-agent: *\ncrawl-delay: 999999999\n", AGENT).delay == robots.SECONDS


def test_what_is_behind_the_limit_is_not_read_and_much_of_it_takes_no_time() -> None:
    line = b"disallow: /" + b"a*" * 500 + b"b$\n"
    body = b"user-agent: *\n" + line * 600 + b"disallow: /behind\n"
    began = time.process_time()
    found = robots.parse(body, AGENT)
    assert found.allows("/behind")
    assert found.allows("/" + "a" * 1000)
    assert time.process_time() - began < 2
    assert len(found.rules) <= robots.LARGEST // len(line) + 1
    assert not robots.parse(b"\xef\xbb\xbfuser-agent: *\rdisallow: /\xff", AGENT).allows("/%EF%BF%BD")
