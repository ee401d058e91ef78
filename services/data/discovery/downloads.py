"""Columns that hold URLs of files: which they are, and what the first of their files are, if servers may be asked."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.data.attachments.domain import Outcome, State
from services.data.attachments.fetcher import Fetcher
from services.data.discovery.domain import Discovery, FoundDownload, Proposal
from services.data.reading.downloads import Download
from services.data.reading.kinds import RuleColumn
from services.data.schema import ColumnType

_URL = re.compile(r"https?://[^\s/]+\S*\Z")
_LEAST = 10  # values that say anything
_CHECKED, _AT_MOST = 3, 12  # files of a column, and of all
_BYTES, _SECONDS = 4 * 2**20, 10.0  # of each of them, and of all


def found(columns: Sequence[RuleColumn], rows: Sequence[Sequence[Any]]) -> tuple[FoundDownload, ...]:
    """The columns in which all values are URLs, by the raw values of records."""
    downloads = []
    for place, column in enumerate(columns):
        values = [value for row in rows if (value := row[place]) not in (None, "")]
        if column.type is not ColumnType.STRING or len(values) < _LEAST:
            continue
        if all(isinstance(value, str) and _URL.match(value) for value in values):
            urls = tuple(dict.fromkeys(values))
            downloads.append(FoundDownload(Download(column.name), len(values), len(urls), sample=urls[:_CHECKED]))
    return tuple(downloads)


def checked(discovery: Discovery, allow: str, folder: Path) -> Discovery:
    """With what the first files of each column are: a few small ones are fetched into a folder that is forgotten.

    `allow`: what the operator lets be reached.
    """
    left, proposals = _AT_MOST, list[Proposal]()
    fetcher = Fetcher(folder, allow, _SECONDS, _AT_MOST * _BYTES, lambda files: None)
    try:
        for proposal in discovery.proposals:
            downloads = []
            for one in proposal.downloads:
                sample = one.sample[:left]
                left -= len(sample)
                asked = fetcher.fetch(replace(one.download, max_bytes=_BYTES, tries=1), sample)
                downloads.append(_told(one, list(asked.values())))
            proposals.append(replace(proposal, downloads=tuple(downloads)))
    finally:
        fetcher.close()
    return replace(discovery, proposals=tuple(proposals))


def _told(one: FoundDownload, outcomes: Sequence[Outcome]) -> FoundDownload:
    kept = [outcome.media_type for outcome in outcomes if outcome.state is State.KEPT]
    families = {kind.partition("/")[0] for kind in kept}
    # One family, such as images, is what the column is about; others may have anything.
    wanted = (f"{families.pop()}/*",) if len(families) == 1 and families != {"application"} else ()
    reasons = dict.fromkeys(outcome.reason for outcome in outcomes if outcome.reason)
    download = replace(one.download, media_types=wanted)
    kinds = tuple(dict.fromkeys(kept))
    return replace(one, download=download, checked=len(outcomes), kept=len(kept), kinds=kinds, reasons=tuple(reasons))
