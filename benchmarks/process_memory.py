"""Memory of this process, in bytes (Linux)."""

import resource
from pathlib import Path
from threading import Event, Thread


def resident() -> int:
    """Resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def own() -> int:
    """Resident memory now that no file backs."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


def peak() -> int:
    """The most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class OwnMemory(Thread):
    """The most memory of this process that no file backs, looked at every 20 ms (Linux)."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.ended = 0, Event()
        self.start()

    def run(self) -> None:
        while not self.ended.wait(0.02):
            self.most = max(self.most, own())
