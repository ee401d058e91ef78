import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import Code, Failure
from services.logs.subscriptions.domain import check_template, next_try, render
from tests.logs.records import record

ONE = record(
    0,
    name="ReleaseChanged",
    model="late",
    version=3,
    text='a "b"\n',
    attributes={"rows": 7, "at.x": "2026-01-02T03:04:05Z"},
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WAITS = (5.0, 300.0, 1800.0)
PAYLOADS = [
    "{{7*7}}",
    "{{ record.__class__ }}",
    "{{record.model.__init__}}",
    "{{ ''.__class__.__mro__ }}",
    "{{config}}",
    "{{ record.model | attr('x') }}",
    "{{ record.model | safe }}",
    "{{record.model|upper|lower}}",
    "{{ cycler.__init__.__globals__ }}",
    "{{#each x}}",
    "{{> partial}}",
    "{{{record.model}}}",
    "{{record.unknown}}",
    "{{ record }}",
    "{{}}",
    "{{record.model",
    "record.model}}",
    "{{record.model}} {{",
    "{{record.scores}}",
]
LITERAL = [
    "${7*7}",
    "#{7*7}",
    "<%= 7*7 %>",
    "{% for x in y %}",
    "%s %(x)s",
    "{0.__class__}",
    "{record.model}",
    "<% import os %>",
]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{record.model}} v{{ record.version }}", "late v3"),
        ("{{record.model | upper}} {{record.name|lower}}", "LATE releasechanged"),
        ("{{record.text | json}}", '"a \\"b\\"\\n"'),
        ("{{record.attributes.rows}}/{{record.attributes.none}}.", "7/."),
        ("{{record.attributes.at.x | date}} {{record.model | date}}", "2026-01-02 late"),
        ("{{record.time}}", "2025-11-21T04:40:00Z"),
        ("{{record.duration_ms | json}}{{record.duration_ms}}", "null"),
    ],
)
def test_a_template_reads_as_it_says(template: str, text: str) -> None:
    check_template(template)
    assert render(template, ONE) == text


@pytest.mark.parametrize("template", PAYLOADS)
def test_what_is_no_field_is_refused(template: str) -> None:
    with pytest.raises(Failure) as caught:
        check_template(template)

    assert caught.value.code is Code.TEMPLATE_INVALID


@pytest.mark.parametrize("template", LITERAL)
def test_other_languages_are_text(template: str) -> None:
    check_template(template)
    assert render(template, ONE) == template


@pytest.mark.parametrize("template", ["x" * 20_001, "{{record.text}}" * 201])
def test_a_template_has_limits(template: str) -> None:
    with pytest.raises(Failure):
        check_template(template)


def test_a_value_is_not_read_as_a_template() -> None:
    assert render("{{record.text}}", record(0, text="{{record.model}}", model="late")) == "{{record.model}}"


def test_what_is_sent_is_bounded_in_size_and_time() -> None:
    began = time.process_time()
    text = render("{{record.text | upper}}" * 200, record(0, text="x" * 16_000))

    assert len(text) == 65_536
    assert time.process_time() - began < 0.05


@given(st.text(st.sampled_from("{}|. recod\nmlp") | st.characters(codec="utf-8"), max_size=80))
def test_no_template_is_a_bug(template: str) -> None:
    try:
        check_template(template)
    except Failure as failure:
        assert failure.code is Code.TEMPLATE_INVALID
    else:
        render(template, ONE)


def test_tries_follow_the_schedule_with_jitter_and_end() -> None:
    waits = [(next_try(WAITS, attempts, NOW, 0.5) or NOW) - NOW for attempts in (1, 2, 3)]
    assert [wait.total_seconds() for wait in waits] == list(WAITS)
    assert next_try(WAITS, 4, NOW, 0.5) is None
    ends = [((next_try(WAITS, 2, NOW, chance) or NOW) - NOW).total_seconds() for chance in (0, 1)]
    assert ends == [240.0, 360.0]
