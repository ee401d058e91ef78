"""Queries for tests, of all shapes."""

from hypothesis import Phase
from hypothesis import strategies as st

from services.logs.search.domain import And, Not, Or, Query

PHASES = [Phase.explicit, Phase.generate]  # an index is filled for each try: to look for a shorter one takes minutes


def trees(leaves: st.SearchStrategy[Query]) -> st.SearchStrategy[Query]:
    """Queries of up to six leaves."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(Not),
            st.lists(inner, min_size=2, max_size=3).map(lambda found: And(tuple(found))),
            st.lists(inner, min_size=2, max_size=3).map(lambda found: Or(tuple(found))),
        ),
        max_leaves=6,
    )
