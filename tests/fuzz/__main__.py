"""Fires at an installation of its own: damaged HTTP requests, damaged gRPC, requests made up from the OpenAPI document.

`python -m tests.fuzz [--tenth]`. A table at the end; a finding makes it fail, and lies in a folder as the bytes that
made it. `--play FILE` sends those again; `--kind http --seed S --first N --count 1` makes them again.
"""

import asyncio
import contextlib
import math
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tests.fuzz.campaign import KINDS, Campaign, Fired
from tests.fuzz.findings import Kept
from tests.fuzz.raw import replay
from tests.fuzz.target import target
from tests.fuzz.vitals import Bound

# How much of the time each of them may take.
SHARES = {"http": 4, "frames": 1, "messages": 1, "documented": 4}
COUNTS = {"http": 1_000_000, "frames": 50_000, "messages": 50_000, "documented": 100_000}


def main(
    tenth: Annotated[bool, typer.Option(help="A tenth of all.")] = False,
    kind: Annotated[str, typer.Option(help=f"One kind only: {', '.join(KINDS)}.")] = "",
    count: Annotated[int, typer.Option(help="How many of that kind.")] = 0,
    minutes: Annotated[float, typer.Option(help="A slow machine fires fewer, and ends about then.")] = math.inf,
    seed: Annotated[int, typer.Option(help="The same seed makes the same shots.")] = 1,
    first: Annotated[int, typer.Option(help="The number of the first one.")] = 0,
    folder: Annotated[Path, typer.Option(help="Where findings are kept.")] = Path("build/findings"),
    play: Annotated[Path | None, typer.Option(help="Sends the bytes of a finding again, and nothing else.")] = None,
) -> None:
    """Fires, and says what came of it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nobody who was started is left behind
    wanted = {name: count or (full // 10 if tenth else full) for name, full in COUNTS.items() if kind in ("", name)}
    if not wanted:
        raise typer.BadParameter(f"there is no kind {kind}")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    with tempfile.TemporaryDirectory(prefix="aimass-fuzz-") as home, target(Path(home)) as aimed:
        if play:
            console.print(asyncio.run(replay(aimed, play.read_bytes())), markup=False)
            return
        kept = Kept(folder, lambda: aimed.secrets)
        campaign = Campaign(aimed, kept, seed)
        fired, begun = list[Fired](), time.monotonic()
        last, whole = begun, sum(SHARES[name] for name in wanted)
        for name, many in wanted.items():
            last += minutes * 60 * SHARES[name] / whole
            with _bar(console, name, many) as tell, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                fired.append(runner.run(campaign.run(name, first, many, tell, last)))
            if not aimed.alive:
                break
        campaign.end()
    console.print(_table(fired))
    for one in fired:
        if one.shots < wanted[one.kind]:
            console.print(f"{one.kind}: the time was over after {one.shots} of {wanted[one.kind]}")
    for finding in kept.found[:20]:
        console.print(f"{finding.name}: {finding.what[:2000]}", markup=False, soft_wrap=True)
        again = f"--kind {finding.kind} --seed {finding.seed} --first {finding.number} --count 1"
        console.print(f"  python -m tests.fuzz {again}, or --play {kept.where(finding)}", markup=False, soft_wrap=True)
    console.print(f"{len(kept.found)} findings")
    sys.exit(1 if kept.found else 0)


@contextlib.contextmanager
def _bar(console: Console, name: str, count: int) -> Iterator[Callable[[int], None]]:
    """Draws how far it is, on a terminal; elsewhere says it now and then."""
    if not console.is_terminal:
        yield lambda done: console.print(f"{name}: {done} of {count}", markup=False)
        return
    look = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*look, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(name, total=count)
        yield lambda done: bar.update(task, completed=done)


def _table(fired: Sequence[Fired]) -> Table:
    """A column for each kind."""
    table = Table("", *(one.kind for one in fired))
    table.add_row("shots", *(f"{one.shots}" for one in fired))
    table.add_row("a second", *(f"{one.shots / one.seconds:.0f}" for one in fired))
    for name in Bound._fields:
        ends = ((getattr(one.samples[0], name), getattr(one.samples[-1], name)) for one in fired)
        table.add_row(name, *(f"{begin:.0f} to {end:.0f}" for begin, end in ends))
    table.add_row("growth of the last third, MiB", *(f"{one.growth:+.1f}" for one in fired))
    counts = ("\n".join(f"{what}: {many}" for what, many in sorted(one.said.items())) for one in fired)
    table.add_row("answers", *counts)
    table.add_row("findings", *(f"{one.findings}" for one in fired))
    return table


if __name__ == "__main__":
    typer.run(main)
