"""The inference instances that can be called: their place in discovery, and the id that they give themselves."""

from collections.abc import Collection, Iterable

from services.kit.discovery import Directory

HERE = ""  # what the instance of this process is called by discovery


class Instances:
    """Instances by place. An instance is known once it has answered at a place; a place has one at a time."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._places: dict[str, str] = {}  # by the instance's own id
        self._ports: dict[str, int] = {}  # of the doors for frames, by place
        self._reached: frozenset[str] = frozenset()

    def places(self) -> Collection[str]:
        """Where instances may be: what discovery calls them, and those that leave and can still be called."""
        if "inference" in self._directory.local:
            return (HERE,)
        pool = self._directory.pool("inference") if self._directory.knows("inference") else None
        leaving = [member.instance.id for member in pool.leaving] if pool else []
        return [*(instance.id for instance in self._directory.instances("inference")), *leaving]

    def met(self, place: str, instance: str, frames_port: int = 0) -> None:
        """The instance at a place has answered with its id, and the port on its host that takes frames."""
        self._ports[place] = frames_port
        self._places = {known: where for known, where in self._places.items() if where != place}
        self._places[instance] = place

    def known(self) -> frozenset[str]:
        """The ids of those that are known and are still there."""
        places = set(self.places())
        self._places = {known: where for known, where in self._places.items() if where in places}
        self._ports = {place: port for place, port in self._ports.items() if place in places}
        return frozenset(self._places)

    def frames_port(self, place: str) -> int:
        """The port on its host where the instance at a place takes frames; 0: none that is known."""
        return self._ports.get(place, 0)

    def connected(self) -> frozenset[str]:
        """The ids of those that are known and can be reached now."""
        reached = self.reached()
        return frozenset(known for known, place in self._places.items() if place in reached)

    def joined(self) -> bool:
        """Whether a place can be reached that could not at the last call: another instance may be there now."""
        before, self._reached = self._reached, self.reached()
        return bool(self._reached - before)

    def reached(self) -> frozenset[str]:
        """The places that can be reached now."""
        pool = self._directory.pool("inference") if self._directory.knows("inference") else None
        if pool is None:
            return frozenset((HERE,))
        return frozenset(member.instance.id for member in pool.members if member.connected)

    def at(self, instances: Iterable[str]) -> set[str]:
        """The places of instances, of those that are known."""
        return {self._places[one] for one in instances if one in self._places}

    def id(self, place: str) -> str:
        """The instance at a place; empty when it is not known."""
        return next((known for known, where in self._places.items() if where == place), "")
