"""Rules that are found, on logs of systems that nothing was chosen for, beside Drain3 with its defaults.

`python -m tests.bench.discovery [lines of each system]`. AI Mass gets whole lines; Drain3 gets the messages without
what stands in front of them, which it would need a setting of each system to take away. Nothing is asserted.
"""

import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from rich.console import Console
from rich.table import Table

from services.data.discovery import headers, templates
from services.data.discovery.words import words_of
from services.data.reading import starts
from tests.bench.held_out import HELD_OUT, SLOTS
from tests.bench.others import SERVERS, Other, environment
from tests.data.discovery import schemas
from tests.data.discovery.planted import planted
from tests.data.discovery.systems import Corpus, corpus, grouping_accuracy, template_accuracy
from tests.support.servers import Missing

_SEED = 2026
_DRAIN = Other("Drain3", ("drain3",), "drain.py", 0, "")


def ours(lines: Sequence[str]) -> tuple[list[templates.Template], float]:
    """The kinds of the lines, and the seconds that they took on one core."""
    begun = time.perf_counter()
    header = headers.find(lines)
    messages = [header.content(line) for line in lines]
    shapes = [words_of(line if text is None else text) for line, text in zip(lines, messages, strict=True)]
    return templates.learn(shapes), time.perf_counter() - begun


def drain(corpora: Sequence[Corpus]) -> list[tuple[list[Sequence[int]], float]]:
    """The same of Drain3. Raises Missing when it cannot be had."""
    asked = json.dumps([found.messages for found in corpora])
    command = [str(environment(_DRAIN)), str(SERVERS / _DRAIN.script)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True, timeout=600)
    answers = []
    for clusters, seconds in json.loads(done.stdout):
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for line, cluster in enumerate(clusters):
            groups[cluster].append(line)
        answers.append((list[Sequence[int]](groups.values()), seconds))
    return answers


def _divided(corpora: Sequence[Corpus]) -> str:
    """How many logs with planted traces and bodies are divided into the right records."""
    right, single = 0, 0
    for number, found in enumerate(corpora):
        truth = planted(found.lines[:400], _SEED + number)
        start = starts.suggested(truth.lines)
        right += bool(start) and [n for n, line in enumerate(truth.lines) if re.match(start, line)] == truth.starts
        single += not starts.suggested(found.lines)
    said = f"records of several lines: {right} of {len(corpora)} logs divided without a fault"
    return f"{said}, {single} of {len(corpora)} logs of single lines left as they are"


def main(size: int) -> None:
    """Prints the share of lines that are grouped right, that of those with the right template, and lines per second."""
    corpora = [corpus(system, _SEED + number, size, SLOTS) for number, system in enumerate(HELD_OUT.values())]
    console = Console()
    try:
        peer = drain(corpora)
    except Missing as missing:
        console.print(f"Drain3: {missing}")
        peer = []
    drains = ("Drain3: grouping", "lines/s")
    table = Table("system", "messages", "kinds", "grouping accuracy", "template accuracy", "lines/s", *drains)
    accuracies = []
    for number, (name, found) in enumerate(zip(HELD_OUT, corpora, strict=True)):
        kinds, seconds = ours(found.lines)
        grouped = grouping_accuracy([kind.lines for kind in kinds], found.truth)
        accuracies.append([grouped, template_accuracy(kinds, found, HELD_OUT[name])])
        row = [name, str(len(set(found.truth))), str(len(kinds)), *(f"{one:.3f}" for one in accuracies[-1])]
        row.append(f"{size / seconds:,.0f}")
        if peer:
            others, took = peer[number]
            accuracies[-1].append(grouping_accuracy(others, found.truth))
            row += [f"{accuracies[-1][2]:.3f}", f"{size / took:,.0f}"]
        table.add_row(*row)
    columns = list(zip(*accuracies, strict=True))
    means, worst = [f"{fmean(column):.3f}" for column in columns], [f"{min(column):.3f}" for column in columns]
    table.add_section()
    table.add_row("mean", "", "", *means[:2], "", *means[2:])
    table.add_row("worst", "", "", *worst[:2], "", *worst[2:])
    console.print(table)
    console.print(_divided(corpora))
    for name, (precision, recall) in schemas.accuracy(range(_SEED, _SEED + 50)).items():
        console.print(f"{name} of 50 made-up databases: precision {precision:.3f}, recall {recall:.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
