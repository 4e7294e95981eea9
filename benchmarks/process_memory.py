"""Memory of this process, in bytes (Linux)."""

import resource
from pathlib import Path
from threading import Event, Thread


def resident() -> int:
    """Current resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def own() -> int:
    """Current resident memory that is not backed by a file."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


def peak() -> int:
    """Peak resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class OwnMemory(Thread):
    """Peak memory of this process that is not backed by a file, sampled every 20 ms (Linux)."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.ended = 0, Event()
        self.start()

    def run(self) -> None:
        while not self.ended.wait(0.02):
            self.most = max(self.most, own())
