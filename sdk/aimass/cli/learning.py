"""The command that has rules found for a source and makes a rule set of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import ParseDict, ParseError

from aimass.cli import calling, output
from aimass.cli.calling import Project
from aimass.cli.flags import parse
from aimass.cli.output import Format, Output
from aimass.cli.tables import CONSOLE, table
from aimass.failures import Failure
from aimass.v1 import rules_pb2

_LONGEST = 63  # characters of a name


def learn(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source: files, an upload, or pushed records.")],
    name: Annotated[str, typer.Option(help="The rule set to create; the source's name if unset.")] = "",
    found: Annotated[
        Path | None, typer.Option(help="What `aimass rules discover SOURCE -o json` found; found now if unset.")
    ] = None,
    match: Annotated[
        str,
        typer.Option(
            help="Which rules get a record that several take: first or all. First if unset, but all where a rule is for"
            " an array of JSON."
        ),
    ] = "",
    records: Annotated[int, typer.Option(help="How many records to learn from; 5,000 if unset.")] = 0,
    activate: Annotated[bool, typer.Option(help="Activate the rule set at once.")] = False,
    output_: Output = Format.TABLE,
    project: Project = "default",
) -> None:
    """Find rules for SOURCE and create them as a rule set, each with a data set of its own.

    The rules are called as the set, a dash, and what was found: office-parcel. Example: aimass learn office
    """
    with calling.client(project) as client:
        discovered = _read(found) if found else client.rules.discover_rules(source=source, records=records)
        if not discovered.proposals:
            raise Failure("failed_precondition", f"no rules were found for {source}: write one, `aimass rules create`")
        name = name or source
        names = _names(name, [proposal.rule for proposal in discovered.proposals])
        rules = [
            {"rule": rule, "definition": one.definition} for rule, one in zip(names, discovered.proposals, strict=True)
        ]
        columns = [column for one in discovered.proposals for column in one.definition.json.columns]
        match = match or ("all" if any("[*]" in getattr(column, "from") for column in columns) else "first")
        made = client.rule_sets.create_rule_set(rule_set=name, source=source, match=match, rules=rules)
        if activate:
            made = client.rule_sets.activate_rule_set(rule_set=name, version=made.version)
    if output_ is Format.JSON:
        output.show(made, output_)
        return
    table("rules", [_row(rule, one) for rule, one in zip(names, discovered.proposals, strict=True)])
    if discovered.unexplained:
        CONSOLE.print(f"[dim]no rule takes {discovered.unexplained} of {discovered.sampled} records[/]")
    left = "" if activate else f"; try it: aimass rule-sets test {name}, activate it: aimass rule-sets activate {name}"
    CONSOLE.print(f"[dim]created the rule set {name}{left}[/]")


def _read(found: Path) -> rules_pb2.DiscoverRulesResponse:
    """The answer of `discover_rules` in a file. Raises Failure for a file that holds something else."""
    try:
        return ParseDict(parse(f"@{found}", "--found"), rules_pb2.DiscoverRulesResponse())
    except ParseError as error:
        raise Failure(
            "invalid_value", f"--found: {found} is not the output of `aimass rules discover`: {error}"
        ) from None


def _names(prefix: str, rules: Sequence[str]) -> list[str]:
    """Names of the rules: the prefix, a dash and what was found, none of them twice."""
    found: dict[str, None] = {}
    for rule in rules:
        name, number = f"{prefix}-{rule}"[:_LONGEST], 1
        while name in found:
            number += 1
            name = f"{f'{prefix}-{rule}'[: _LONGEST - 1 - len(str(number))]}-{number}"
        found[name] = None
    return list(found)


def _row(rule: str, proposal: rules_pb2.RuleProposal) -> dict[str, object]:
    likely = f"{proposal.precision_low:.2f} to {proposal.precision_high:.2f}"
    row = {"rule": rule, "records": proposal.records, "coverage": f"{proposal.coverage:.1%}", "precision": likely}
    return row | {"reason": proposal.reason}
