"""What a child process uses: its memory now, and its processor time so far."""

import contextlib


class Spent:
    """Processor time of a child and its children: as last seen, and exact once the child has answered."""

    def __init__(self) -> None:
        self.cpu_milliseconds = 0
        self._before = 0.0

    def see(self, milliseconds: float) -> None:
        """Notes the time used by now."""
        self.cpu_milliseconds = max(self.cpu_milliseconds, int(milliseconds))

    def begin(self, pid: int) -> None:
        """What a resident child has used by now is not of this work."""
        import psutil

        with contextlib.suppress(psutil.Error):
            self._before = sum(psutil.Process(pid).cpu_times()[:4])

    def look(self, pid: int) -> int:
        """Notes what a tree of processes has used; returns its resident bytes, 0 when it is gone."""
        import psutil

        try:
            tree = [root := psutil.Process(pid), *root.children(recursive=True)]
            # The parent counts the time of its children that have ended.
            seconds = sum(sum(each.cpu_times()[:4]) for each in tree)
            resident = sum(each.memory_info().rss for each in tree)
        except psutil.Error:
            return 0
        self.see((seconds - self._before) * 1000)
        return int(resident)
