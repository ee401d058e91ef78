"""What the scaling steps of a fitted feature set did to columns, undone."""

from collections.abc import Mapping, Sequence

from aimass.failures import Failure
from aimass.v1.features_pb2 import FeatureSetVersion


def unscale(
    version: FeatureSetVersion,
    outputs: Mapping[str, Sequence[float]],
    inputs: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, list[float]]:
    """Outputs of the graph of a version, by name, in the units of the columns that they were made from.

    `inputs` has the columns that lines were fitted over, by name; times in seconds since 1970. Outputs are numbers of
    32 bits: the answer is off by up to 6e-8 of what the step divided. Raises Failure `invalid_value` for an output
    that no scaling step made, and for a column that is needed and not there.
    """
    known = {scaling.output: scaling for scaling in version.scalings}
    found = {}
    for name, values in outputs.items():
        if name not in known:
            able = ", ".join(known) or "none"
            raise Failure("invalid_value", f"{name} was not made by a scaling step; outputs that were: {able}")
        scaling = known[name]
        line = [0.0] * len(values)
        if scaling.order:
            order = (inputs or {}).get(scaling.order, ())
            if len(order) != len(values):
                raise Failure("invalid_value", f"{name} needs as many values of {scaling.order} as it has itself")
            line = [scaling.slope * (at - scaling.origin) for at in order]
        found[name] = [value * scaling.width + scaling.shift + away for value, away in zip(values, line, strict=True)]
    return found
