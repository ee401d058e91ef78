import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import Code, Failure
from services.logs.search.domain import All, And, Field, Not, Or, Query, Range, Words, parse

A, B, C = Words(("a",)), Words(("b",)), Words(("c",))
GOOD = [
    ("", All()),
    ("  ", All()),
    ("a", A),
    ("A", A),
    ("a b", And((A, B))),
    ("a AND b", And((A, B))),
    ("a OR b AND c", Or((A, And((B, C))))),
    ("(a OR b) c", And((Or((A, B)), C))),
    ("NOT a", Not(A)),
    ("NOT NOT a", Not(Not(A))),
    ("a NOT b OR c", Or((And((A, Not(B))), C))),
    ('"a  B!"', Words(("a", "b"))),
    ("req-17", Words(("req", "17"))),
    ("lat*", Words(("lat",), True)),
    ("arr_delay", Words(("arr_delay",))),
    ("kind:event", Field("kind", "event")),
    ("severity:error", Field("severity", "ERROR")),
    ('name:"a \\"b\\" \\\\c"', Field("name", 'a "b" \\c')),
    ("name:Rel*", Field("name", "Rel", True)),
    ('name:"Rel*"', Field("name", "Rel*")),
    ("name:aimass.v1.Models/GetModel", Field("name", "aimass.v1.Models/GetModel")),
    ("attributes.rows.count:7", Field("attributes.rows.count", "7")),
    ("version:3", Range("version", 3.0, 3.0)),
    ("duration_ms:>5", Range("duration_ms", 5.0, None, with_low=False)),
    ("status:>=500", Range("status", 500.0, None)),
    ("attributes.x:<-1.5e3", Range("attributes.x", None, -1500.0, with_high=False)),
    ("version:[1 TO 5]", Range("version", 1.0, 5.0)),
    ("version:[ * TO 5 ]", Range("version", None, 5.0)),
    ("kind:prediction AND model:late", And((Field("kind", "prediction"), Field("model", "late")))),
]
BAD = [
    ("(a", "character 3: the bracket of character 1 does not end"),
    ("a)", "character 2"),
    ("()", "character 2"),
    ("a AND", "character 6: something is missing at the end"),
    ("OR a", "character 1"),
    ("a OR OR b", "character 6"),
    ("NOT", "character 4"),
    ('"a', "character 1: the quote does not end"),
    ("colour:red", "character 1: there is no field colour"),
    ("attributes.:x", "there is no field attributes."),
    ("kind:", "character 6: kind needs a value"),
    ("kind: event", "character 6: kind needs a value"),
    ('kind:""', "kind needs a value"),
    ("kind:>5", "kind is not a number"),
    ("version:x", "x is not a number"),
    ("version:nan", "nan is not a number"),
    ("version:[1 5]", "a range is written"),
    ("version:[1 TO x]", "x is not a number"),
    ("version:>", "needs a number"),
    ("version:> 5", "needs a number"),
    ("!!!", "has no letter or digit"),
    ("a*b", "a wildcard stands at the end"),
    ("10:30", "character 3"),
    ("https://x", "quote it if it is text"),
    ("kind:(a OR b)", "is no value"),
]
COSTLY = [" ".join(["a"] * 65), "(" * 40 + "a" + ")" * 40, "NOT " * 40 + "a", "a*", "name:a*", "a-b*", "x" * 4097]


@pytest.mark.parametrize(("text", "tree"), GOOD)
def test_a_query_becomes_a_tree(text: str, tree: Query) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(("text", "why"), BAD)
def test_a_wrong_query_says_where(text: str, why: str) -> None:
    with pytest.raises(Failure) as caught:
        parse(text)

    assert caught.value.code is Code.QUERY_INVALID
    assert why in caught.value.detail
    assert caught.value.violations[0].pointer == "/query"


@pytest.mark.parametrize("text", COSTLY)
def test_a_query_has_limits(text: str) -> None:
    with pytest.raises(Failure) as caught:
        parse(text)

    assert caught.value.code is Code.QUERY_TOO_COSTLY


@given(st.text(st.sampled_from('ab"()[]<>:=*\\ \n\0é0-1.') | st.characters(codec="utf-8"), max_size=60))
def test_no_text_is_a_bug(text: str) -> None:
    try:
        parse(text)
    except Failure as failure:
        assert failure.code in (Code.QUERY_INVALID, Code.QUERY_TOO_COSTLY)
