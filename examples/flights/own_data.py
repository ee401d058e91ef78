"""Step 10: a file of the user's own, by three commands."""

import os
import subprocess
import sys

from examples.flights.story import Story, expect


def airports(story: Story) -> None:
    """Uploads a CSV file, makes a source of it, and reads it into a data set: as one would type it."""
    digest = _aimass(story, "upload", str(story.company.airports))
    _aimass(story, "sources", "create", "airports", "--upload", digest, "--format", "csv")
    shown = _aimass(story, "extract", "airports")
    story.say(shown.splitlines()[0])
    rows = story.client.data_sets.get_data_set_version(data_set="airports", version=1).rows
    expect(rows > 1000, f"airports has {rows} rows")
    story.facts["airports rows"] = rows


def _aimass(story: Story, *arguments: str) -> str:
    """Runs the command line and returns what it printed."""
    story.say(f"[dim]$ aimass {' '.join(arguments)}[/]")
    known = {"AIMASS_URL": story.client.door.url, "AIMASS_KEY": story.client.door.key, "COLUMNS": "120"}
    known |= {"AIMASS_CA": story.client.door.ca} if story.client.door.ca else {}
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIMASS_")} | known
    done = subprocess.run(
        [sys.executable, "-m", "aimass.cli", *arguments], env=env, capture_output=True, text=True, timeout=120
    )
    expect(done.returncode == 0, f"aimass {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()
