"""Missing numbers by the numbers beside them: least squares, and nearest rows. For children."""

from typing import Any

from services.data.cleaning.kinds import FillMissing, Method
from services.data.cleaning.operators import WHOLE, Applied, Array, Json, Operator, Rows, column_of, missing, replaced
from services.data.schema import ColumnType

_DONORS, _NEIGHBORS = 1_000, 5
_CHUNK = 1_024  # rows whose distances are computed at once


class Modelling(Operator[FillMissing]):
    """A model for each column, of the same predictors."""

    learns = True

    def learn(self, rows: Rows) -> None:
        import numpy as np

        found = [_plain(column_of(rows, self.before[name])) for name in self.kind.predictors]
        inputs = np.column_stack(found)
        for name in self.names:
            target = _plain(column_of(rows, self.before[name]))
            there = np.isfinite(target)
            if there.any():
                self.state[name] = self._learned(inputs[there], target[there])
            else:
                self.notes.append(f"{name} has no value to learn from: what is missing stays so")

    def _learned(self, inputs: Array, target: Array) -> Json:
        import numpy as np

        finite = np.where(np.isfinite(inputs), inputs, np.nan)
        count = np.maximum((~np.isnan(finite)).sum(axis=0), 1)
        means = np.nansum(finite, axis=0) / count
        filled = np.where(np.isnan(finite), means, finite)
        widths = filled.std(axis=0)
        widths = np.where(widths > 0, widths, 1.0)
        state = {"means": means.tolist(), "widths": widths.tolist()}
        scaled = (filled - means) / widths
        if self.kind.method == Method.REGRESSION:
            design = np.column_stack([np.ones(len(scaled)), scaled])
            return state | {"weights": np.linalg.lstsq(design, target, rcond=None)[0].tolist()}
        chosen = np.unique(np.linspace(0, len(scaled) - 1, min(_DONORS, len(scaled))).astype(np.int64))
        return state | {"donors": scaled[chosen].tolist(), "targets": target[chosen].tolist()}

    def apply(self, table: Any) -> Applied:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        inputs = np.column_stack([_plain(table.column(name)) for name in self.kind.predictors])
        for name in self.names:
            values = table.column(name)
            empty = np.asarray(missing(values).to_numpy(zero_copy_only=False), bool)
            if name not in self.state or not empty.any():
                continue
            found = np.zeros(table.num_rows)
            found[empty] = self._predicted(self.state[name], inputs[empty])
            if self.before[name].type is ColumnType.INT64:
                found = np.clip(np.rint(found), *WHOLE).astype(np.int64)
            table = replaced(table, name, pc.if_else(pa.array(empty), pa.array(found), values))
        return Applied(table)

    def _predicted(self, state: Json, inputs: Array) -> Array:
        import numpy as np

        means, widths = np.array(state["means"]), np.array(state["widths"])
        scaled = (np.where(np.isfinite(inputs), inputs, means) - means) / widths
        if self.kind.method == Method.REGRESSION:
            weights = np.array(state["weights"])
            return weights[0] + scaled @ weights[1:]
        donors, targets = np.array(state["donors"]), np.array(state["targets"])
        parts = [scaled[at : at + _CHUNK] for at in range(0, len(scaled), _CHUNK)]
        return np.concatenate([self._nearest(part, donors, targets) for part in parts])

    def _nearest(self, scaled: Array, donors: Array, targets: Array) -> Array:
        import numpy as np

        far = sum((scaled[:, [place]] - donors[:, place]) ** 2 for place in range(donors.shape[1]))
        count = min(self.kind.neighbors or _NEIGHBORS, len(donors))
        # Of rows that are as far, the first.
        near = np.argsort(far, axis=1, kind="stable")[:, :count]
        return targets[near].mean(axis=1)

    def shown(self) -> list[dict[str, str]]:
        """The line that least squares found, in the units of the columns."""
        found = list[dict[str, str]]()
        for name, state in self.state.items():
            if "weights" not in state:
                continue
            slopes = [w / s for w, s in zip(state["weights"][1:], state["widths"], strict=True)]
            origin = state["weights"][0] - sum(b * m for b, m in zip(slopes, state["means"], strict=True))
            found.append({"column": name, "name": "intercept", "value": repr(origin)})
            found += [
                {"column": name, "name": f"times {one}"[:200], "value": repr(slope)}
                for one, slope in zip(self.kind.predictors, slopes, strict=True)
            ]
        return found


def _plain(values: Any) -> Array:
    """Doubles, NaN for NULL."""
    import pyarrow as pa

    return values.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy()
