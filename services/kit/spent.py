"""What a child process uses: its memory now, and what it has had of processors."""


class Spent:
    """Milliseconds of processors of a child and its children: as was last seen, and exactly once it has answered."""

    def __init__(self) -> None:
        self.cpu_milliseconds = 0

    def see(self, milliseconds: float) -> None:
        """It has used so much by now."""
        self.cpu_milliseconds = max(self.cpu_milliseconds, int(milliseconds))

    def look(self, pid: int) -> int:
        """Notes what a tree of processes has used, and returns its resident bytes; 0 when it is gone."""
        import psutil

        try:
            tree = [root := psutil.Process(pid), *root.children(recursive=True)]
            # What processes used that have ended, their parent knows.
            seconds = sum(sum(each.cpu_times()[:4]) for each in tree)
            resident = sum(each.memory_info().rss for each in tree)
        except psutil.Error:
            return 0
        self.see(seconds * 1000)
        return int(resident)
