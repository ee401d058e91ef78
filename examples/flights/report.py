"""The end of the story: a table, a summary for programs, and a page that needs nothing but a browser."""

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table

from examples.flights import pictures
from examples.flights.definitions import CANDIDATES
from examples.flights.story import Story

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2937; --paper: #ffffff; --line: #9ca3af; --soft: #f3f4f6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e7eb; --paper: #111827; --line: #6b7280; --soft: #1f2937; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 64rem;
       margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td { padding: .2rem .8rem; border-bottom: 1px solid var(--line); }
td:last-child { text-align: right; font-variant-numeric: tabular-nums; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; } .wide { overflow-x: auto; }
svg { max-width: none; } svg text { fill: currentColor; font: 13px system-ui, sans-serif; }
svg .small { font-size: 11px; } svg .title { font-weight: 600; }
svg .frame { fill: none; stroke: var(--line); } svg .diagonal { stroke: var(--line); stroke-dasharray: 4; fill: none; }
svg .edge { fill: none; stroke: var(--line); } svg .node { fill: var(--soft); stroke: var(--line); }
"""
_NEXT = (
    ". .venv/bin/activate && aimass up starts the services in this folder, for data of your own",
    "examples/flights/README.md tells this story with curl and with the SDK",
    "KEEP=1 make demo leaves the installation behind: look into it with aimass status",
)


def rows(story: Story) -> Iterator[tuple[str, str]]:
    """What came of it, a line each."""
    facts = story.facts
    yield "flights", f"{facts['flights rows']:,} rows, {facts['flights versions']} versions"
    yield "late by more than 15 minutes", f"{facts['base rate']:.1%}"
    yield "features", str(facts["features"])
    for name in CANDIDATES:
        live = facts["live AUC"].get(facts[name]["version"], float("nan"))
        yield f"version {facts[name]['version']}: {name}", f"AUC {facts[name]['metrics']['auc']:.4f}, live {live:.4f}"
    yield "one row, by gRPC", f"p50 {facts['p50 ms']:.1f} ms, p99 {facts['p99 ms']:.1f} ms"
    yield "answers equal to the stored bits", f"{facts['rows compared']:,} rows"
    yield "requests while versions changed", f"{facts['requests while switching']:,}, none failed"
    yield "records in the log centre", f"{facts['log records']:,}"
    yield "ready after", f"{facts['start seconds']:.1f} s"


def table(story: Story) -> Table:
    """The table that ends the story in the terminal."""
    drawn = Table(title="What came of it", show_header=False, title_justify="left")
    for name, value in rows(story):
        drawn.add_row(name, value)
    drawn.add_section()
    for name, seconds in story.seconds.items():
        drawn.add_row(name, f"{seconds:.1f} s")
    drawn.add_row("in all", f"{sum(story.seconds.values()):.1f} s", style="bold")
    return drawn


def summary(story: Story) -> dict[str, Any]:
    """The same for programs."""
    kept = ("flights rows", "flights versions", "base rate", "features", "p50 ms", "p99 ms", "rows compared")
    counts = ("requests while switching", "log records", "airports rows", "webhooks", "outcomes", "start seconds")
    found: dict[str, Any] = {name.replace(" ", "_"): story.facts[name] for name in (*kept, *counts)}
    found["versions"] = {
        str(story.facts[name]["version"]): {
            "name": name,
            "auc": story.facts[name]["metrics"]["auc"],
            "live_auc": story.facts["live AUC"].get(story.facts[name]["version"]),
        }
        for name in CANDIDATES
    }
    found["seconds"] = {name: round(seconds, 2) for name, seconds in story.seconds.items()}
    return found


def write(story: Story, page: Path, numbers: Path | None) -> None:
    """Writes the page, and the summary where it is wanted."""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html(story))
    if numbers:
        numbers.write_text(json.dumps(summary(story), indent=2))


def html(story: Story) -> str:
    """A page without any link to the outside."""
    roc, calibration = {}, {}
    for name in CANDIDATES:
        report = story.facts[name]["report"]
        roc[f"{name} ({report['metrics']['auc']:.3f})"] = [
            (point["false_positive_rate"], point["true_positive_rate"]) for point in report["roc"]
        ]
        calibration[name] = [(b["predicted"], b["observed"]) for b in report["calibration"] if b["rows"] > 20]
    drawn = [
        pictures.curves("ROC, October to December", "false positive rate", "true positive rate", roc),
        pictures.curves("Calibration", "predicted", "observed", calibration),
    ]
    lines = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows(story))
    took = "".join(f"<tr><td>{escape(name)}</td><td>{s:.1f} s</td></tr>" for name, s in story.seconds.items())
    nexts = "".join(f"<li>{escape(text)}</li>" for text in _NEXT)
    lineage = pictures.graph("Where the flights come from", story.facts["lineage"] + _models(story))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Flights</title>'
        f"<style>{_STYLE}</style></head><body><h1>Which flights will be late?</h1><table>{lines}</table>"
        f'<h2>How good they are</h2><div class="pictures">{"".join(drawn)}</div>'
        f'<h2>Lineage</h2><div class="wide">{lineage}</div>'
        f"<h2>How long it took</h2><table>{took}</table><h2>What to try next</h2><ul>{nexts}</ul></body></html>"
    )


def _models(story: Story) -> list[tuple[str, str]]:
    """From the data set on: the features, and the versions that were made with them."""
    fitted = "feature_set:late@1"
    known = [edge for edge in story.facts["lineage"] if fitted in edge]
    edges = [] if known else [(f"data_set:flights@{story.facts['flights versions']}", fitted)]
    return [*edges, *((fitted, f"model:late@{story.facts[name]['version']} {name}"[:30]) for name in CANDIDATES)]


def nexts(story: Story) -> None:
    """What to try next."""
    story.console.print("\n[bold]What to try next[/]")
    for text in _NEXT:
        story.console.print(f"   {text}")
