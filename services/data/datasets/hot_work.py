"""The child that stays and answers queries of one tenant from tables in memory."""

from services.data.datasets import work
from services.data.engine_memory import Memory
from services.kit.child import Child, Json

_kept: list[Memory] = []


def main(request: Json, child: Child) -> Json:
    """`{drop}`, and for a query as `work` has it `{room, hot: {name: {key, columns, view}}}`.

    Returns what `work` does, with `held`, and `hot`: whether it is from memory. Where the tables do not fit into `room`
    bytes, it is from files, and `needed` says what those take that were not there. Raises as `work` does.
    """
    memory = _memory()
    memory.drop(request["drop"])
    if "sql" not in request:
        return {"held": memory.held()}
    if needed := _loaded(memory, request):
        return {**work.main(request, child), "held": memory.held(), "hot": False, "needed": needed}
    with memory.views({name: table["view"] for name, table in request["hot"].items()}):
        found = work.answered(memory.run(request["sql"]), request)
    return {**found, "held": memory.held(), "hot": True}


def _loaded(memory: Memory, request: Json) -> int:
    """Loads what is not there: 0, or else the bytes that would not fit, and then nothing is loaded."""
    hot, loaded = request["hot"], list[str]()
    for name, table in hot.items():
        if memory.has(table["key"], table["columns"]):
            continue
        loaded.append(table["key"])
        memory.load(table["key"], request["tables"][name], table["columns"])
        if memory.bytes > request["room"]:
            needed = sum(size for key, (_, size) in memory.held().items() if key in loaded)
            memory.drop(loaded)
            return needed
    return 0


def _memory() -> Memory:
    if not _kept:
        _kept.append(Memory())
    return _kept[0]
