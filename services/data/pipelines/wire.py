"""Pipelines between the domain and the wire."""

from collections.abc import Iterable

from aimass.v1 import pipelines_pb2 as pb
from services.data.pipelines.domain import Condition, Pipeline, Run, Step
from services.kit.timestamps import to_wire


def steps_from_wire(steps: Iterable[pb.PipelineStep]) -> tuple[Step, ...]:
    """Declared steps, not checked yet."""
    return tuple(
        Step(
            data_set=step.data_set,
            sql=step.sql,
            inputs=tuple(step.inputs),
            quarantine=_conditions(step.quarantine),
            exclude=_conditions(step.exclude),
            cursor=step.cursor,
        )
        for step in steps
    )


def _conditions(conditions: Iterable[pb.RowCondition]) -> tuple[Condition, ...]:
    return tuple(Condition(condition.reason, condition.expression) for condition in conditions)


def pipeline_to_wire(found: Pipeline) -> pb.Pipeline:
    """A pipeline; its etag is its generation."""
    return pb.Pipeline(
        pipeline=found.pipeline,
        description=found.description,
        steps=[_step_to_wire(step) for step in found.steps],
        etag=str(found.generation),
        create_time=to_wire(found.create_time),
        update_time=to_wire(found.update_time),
        delete_time=to_wire(found.delete_time),
    )


def _step_to_wire(step: Step) -> pb.PipelineStep:
    return pb.PipelineStep(
        data_set=step.data_set,
        sql=step.sql,
        inputs=step.inputs,
        quarantine=[pb.RowCondition(**vars(condition)) for condition in step.quarantine],
        exclude=[pb.RowCondition(**vars(condition)) for condition in step.exclude],
        cursor=step.cursor,
    )


def run_to_wire(run: Run) -> pb.PipelineRun:
    """What came of a run."""
    outputs = [pb.PipelineOutput(**vars(output)) for output in run.outputs]
    return pb.PipelineRun(run=run.run, pipeline=run.pipeline, outputs=outputs)
