"""Recipes between the domain and the wire."""

from collections.abc import Iterable, Mapping
from typing import Any

from aimass.v1 import recipes_pb2 as pb
from services.data.cleaning.domain import RecipeView, Run
from services.data.cleaning.kinds_values import Spellings
from services.data.cleaning.steps import KINDS, Step, from_json
from services.data.datasets.masking import NOTHING, Hidden, hidden_of, is_hidden
from services.data.schema import Column, ColumnType
from services.data.wire import fields_of, plain, schema_to_wire
from services.kit.errors import Failure, invalid
from services.kit.timestamps import to_wire

_STEP = pb.CleaningStep.DESCRIPTOR


def steps_from_wire(steps: Iterable[pb.CleaningStep]) -> tuple[Step, ...]:
    """Steps, not checked yet. Raises invalid_value for one that says no kind, and for values that are not known."""
    return tuple(_step_of(step, f"/steps/{index}") for index, step in enumerate(steps))


def _step_of(step: pb.CleaningStep, at: str) -> Step:
    word = step.WhichOneof("kind")
    if word is None:
        raise invalid(at, f"must be one of {', '.join(KINDS)}")
    try:
        found = plain(getattr(step, word))
    except Failure as failure:
        raise invalid(f"{at}/{word}", f"is wrong: {failure.detail}") from None
    what = {name: value if _single(value) else tuple(value) for name, value in found.items()}
    if "mapping" in what:
        what["mapping"] = tuple((getattr(one, "from"), one.to) for one in step.spellings.mapping)
    if "type" in what:
        what["type"] = ColumnType(str(what["type"]))
    return Step(step.step, KINDS[word](**what))


def _single(value: Any) -> bool:
    return isinstance(value, str | int | float)


def step_to_wire(step: Step, hidden: Hidden = NOTHING) -> pb.CleaningStep:
    """As it was said; without values that stand for others in hidden columns."""
    message = _STEP.fields_by_name[step.word].message_type
    fields = fields_of(step.kind, message)
    if isinstance(step.kind, Spellings):
        seen = () if any(is_hidden(name, hidden) for name in step.kind.columns) else step.kind.mapping
        fields["mapping"] = [{"from": one, "to": to} for one, to in seen]
    made: Any = {"step": step.step, step.word: fields}
    return pb.CleaningStep(**made)


def recipe_to_wire(view: RecipeView, hidden: Hidden = NOTHING) -> pb.Recipe:
    """A recipe with one of its versions; without what was learned of hidden columns."""
    recipe, version = view.recipe, view.version
    return pb.Recipe(
        recipe=recipe.recipe,
        description=recipe.description,
        data_set=recipe.data_set,
        output_data_set=recipe.output,
        version=version.version,
        steps=[step_to_wire(step, hidden) for step in version.steps],
        learned=[_learned_to_wire(one, hidden) for one in version.learned],
        learned_from=version.learned_from,
        latest_version=recipe.latest_version,
        etag=str(recipe.generation),
        create_time=to_wire(recipe.create_time),
        update_time=to_wire(recipe.update_time),
        delete_time=to_wire(recipe.delete_time),
    )


def _learned_to_wire(learned: Mapping[str, Any], hidden: Hidden) -> pb.LearnedStep:
    values = [pb.LearnedValue(**one) for one in learned["shown"] if not is_hidden(one["column"], hidden)]
    return pb.LearnedStep(step=learned["step"], values=values)


def run_to_wire(run: Run, hidden: Hidden = NOTHING) -> pb.RecipeRun:
    """A run with its report; of hidden columns without examples, and without notes that tell their values."""
    return pb.RecipeRun(
        run=run.run,
        recipe=run.recipe,
        version=run.version,
        data_set=run.data_set,
        data_set_version=run.data_set_version,
        output_data_set=run.output,
        output_version=run.output_version,
        state=pb.RecipeRunState.Value(f"RECIPE_RUN_STATE_{run.state.upper()}"),
        operation=run.operation,
        steps=[_report_to_wire(one, hidden) for one in run.report],
        create_time=to_wire(run.create_time),
        end_time=to_wire(run.end_time),
        **vars(run.counts),
    )


def answer_to_wire(run: Run) -> pb.RecipeRun:
    """A run as its operation has it, which is also for those from whom columns are hidden: without values."""
    told = (one for step in run.report for one in (*step["columns"], *step.get("told", ())))
    return run_to_wire(run, hidden_of(one["column"] for one in told))


def _report_to_wire(told: Mapping[str, Any], hidden: Hidden) -> pb.StepReport:
    columns = [_change_to_wire(one, is_hidden(one["column"], hidden)) for one in told["columns"]]
    notes = [*told["notes"], *(one["note"] for one in told.get("told", ()) if not is_hidden(one["column"], hidden))]
    counts = {name: told[name] for name in ("step", "rows_in", "rows_out", "quarantined", "duplicates")}
    return pb.StepReport(**counts, columns=columns, notes=notes)


def _change_to_wire(told: Mapping[str, Any], hide: bool) -> pb.ColumnChange:
    change = pb.ColumnChange(column=told["column"], changed=told["changed"])
    for example in () if hide else told["examples"]:
        made = change.examples.add(row=example["row"])
        for part in ("before", "after"):
            _set(getattr(made, part), example[part])
    return change


def _set(value: Any, told: Any) -> None:
    """A value of JSON, whatever it is."""
    if told is None:
        value.null_value = 0
    elif isinstance(told, bool):
        value.bool_value = told
    elif isinstance(told, str):
        value.string_value = told
    else:
        value.number_value = told


def proposal_to_wire(told: Mapping[str, Any]) -> pb.ProposeRecipeResponse:
    """Steps that a child proposes."""
    steps = [pb.ProposedStep(step=step_to_wire(from_json(one["step"])), reason=one["reason"]) for one in told["steps"]]
    return pb.ProposeRecipeResponse(steps=steps, rows=told["rows"])


def preview_to_wire(told: Mapping[str, Any]) -> pb.PreviewRecipeResponse:
    """What a child told of a preview."""
    columns = tuple(Column(name, ColumnType(kind), bool(null)) for name, kind, null in told["columns"])
    answer = pb.PreviewRecipeResponse(
        steps=[_report_to_wire(one, NOTHING) for one in told["report"]],
        learned=[_learned_to_wire(one, NOTHING) for one in told["learned"]],
        schema=schema_to_wire(columns),
        **told["counts"],
    )
    for row in told["rows"]:
        made = answer.rows.add(row=row["row"], reason=row["reason"])
        for part in ("before", "after"):
            for name, value in (row[part] or {}).items():
                _set(getattr(made, part).fields[name], value)
    return answer
