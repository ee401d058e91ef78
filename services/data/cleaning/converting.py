"""Texts become values of another type. For children."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from services.data.arrow import arrow_type
from services.data.cleaning.kinds import FALSE_TEXTS, TRUE_TEXTS, Convert
from services.data.cleaning.operators import Applied, Operator, mask, replaced
from services.data.reading.values import Misfit, Value, parse
from services.data.schema import ColumnType

_LONGEST = 100  # characters of a text that can be a value
_SPACES, _APOSTROPHES = " \u00a0\u2009\u202f", "'\u2019"  # those that look alike
Parse = Callable[[str], Value]


class Converting(Operator[Convert]):
    """Each text that is different is read once in a batch."""

    def apply(self, table: Any) -> Applied:
        import pyarrow.compute as pc

        done, kind = Applied(table), arrow_type(self.kind.type)
        for name in self.names:
            texts = table.column(name)
            values = read_texts(texts, parser(self.kind), kind)
            unread = mask(pc.and_(pc.is_valid(texts), pc.is_null(values)))
            done.broken.append((f"{name} is no {self.kind.type}", unread))
            done.table = replaced(done.table, name, values)
        return done


def read_texts(texts: Any, read: Callable[[str], Any], kind: Any, empty: bool = False) -> Any:
    """What each text is as an Arrow type; NULL where it is none. With `empty`, the empty text may be one."""
    import pyarrow as pa

    coded = texts.combine_chunks().dictionary_encode()
    known = [_read(text, read, empty) for text in coded.dictionary.to_pylist()]
    return pa.chunked_array([pa.array(known, kind).take(coded.indices)], kind)


def _read(text: str, read: Callable[[str], Any], empty: bool) -> Any:
    text = text.strip()
    if len(text) > _LONGEST or not (text or empty):
        return None
    try:
        return read(text)
    except (Misfit, ValueError, OverflowError):
        return None


@cache
def parser(kind: Convert) -> Parse:
    """How a text is read."""
    match kind.type:
        case ColumnType.BOOL:
            return _truths(kind)
        case ColumnType.INT64 | ColumnType.DOUBLE:
            return numbers(kind.type, kind.decimal_sign, kind.thousands_sign)
        case _:
            return _times(kind)


def _truths(kind: Convert) -> Parse:
    known = {text.casefold(): True for text in kind.true_texts or TRUE_TEXTS}
    known |= {text.casefold(): False for text in kind.false_texts or FALSE_TEXTS if text.casefold() not in known}
    return lambda text: known.get(text.casefold())


def numbers(kind: ColumnType, decimal_sign: str = "", thousands_sign: str = "") -> Parse:
    """Numbers with these signs: 1.234,56."""
    decimal, same = re.escape(decimal_sign or "."), alike(thousands_sign)
    whole = rf"[0-9]+|[0-9]{{1,3}}(?:{same}[0-9]{{3}})+" if same else "[0-9]+"
    fraction = rf"(?:{decimal}[0-9]*)?(?:[eE][+-]?[0-9]{{1,3}})?" if kind is ColumnType.DOUBLE else ""
    leading = rf"|{decimal}[0-9]+" if fraction else ""
    form = re.compile(rf"[+-]?(?:(?:{whole}){fraction}{leading})\Z")
    marks = re.compile(same) if same else None

    def read(text: str) -> Value:
        if not form.match(text):
            raise Misfit
        plain = marks.sub("", text) if marks else text
        return parse(plain.replace(decimal_sign, ".") if decimal_sign else plain, kind)

    return read


def alike(sign: str) -> str:
    """A pattern of the sign and of those that look like it; empty for none."""
    same = next((group for group in (_SPACES, _APOSTROPHES) if sign and sign in group), sign)
    return f"[{re.escape(same)}]" if same else ""


def _times(kind: Convert) -> Parse:
    zone = ZoneInfo(kind.zone) if kind.zone else UTC

    def read(text: str) -> Value:
        if not kind.formats:
            return _standard(text, kind.type, zone)
        for form in kind.formats:
            try:
                found = datetime.strptime(text, form)
            except ValueError:
                continue
            return found.date() if kind.type is ColumnType.DATE else in_zone(found, zone)
        raise Misfit

    return read


def _standard(text: str, kind: ColumnType, zone: Any) -> Value:
    """As RFC 3339; a time without an offset is one of the zone."""
    if kind is ColumnType.DATE or zone is UTC:
        return parse(text, kind)
    try:
        local = parse(f"{text}Z", kind)
    except Misfit:
        return parse(text, kind)
    assert isinstance(local, datetime)
    return in_zone(local.replace(tzinfo=None), zone)


def in_zone(local: datetime, zone: Any) -> datetime:
    """A time in UTC; of two that have the same name the earlier. Raises Misfit for one that was never there."""
    if local.tzinfo:
        return local.astimezone(UTC)
    found = local.replace(tzinfo=zone).astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) != local:
        raise Misfit
    return found
