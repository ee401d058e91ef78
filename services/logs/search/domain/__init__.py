"""The query language: its tree, how a text becomes one, and what it says of a record."""

from services.logs.search.domain.matching import NOTHING, matches, rest
from services.logs.search.domain.parsing import parse
from services.logs.search.domain.query import All, And, Field, Not, Or, Query, Range, Words

__all__ = ["NOTHING", "All", "And", "Field", "Not", "Or", "Query", "Range", "Words", "matches", "parse", "rest"]
