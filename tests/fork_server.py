"""Commands of Python in processes that have everything imported: importing takes seconds, forking none.

As a script this is the process that forks: ``python tests/fork_server.py ADDRESS`` until the standard
input ends. It has no threads, because it computes nothing itself. ``python tests/fork_server.py ADDRESS
ARGUMENT...`` is ``python ARGUMENT...`` in a fork of it.
"""

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

FILES = 3
"""Standard input, output and error."""
ADDRESS = "RECBOLE_MM_TEST_FORK_SERVER"
"""Variable with the address of the server."""


class Forked:
    """A Python command in a fork of the server, with what :class:`subprocess.Popen` has of it."""

    def __init__(self, command, *, stdin, stdout, stderr=2, env):
        assert command[0] == sys.executable
        self.stdin = self.stdout = None
        given = []
        if stdin == subprocess.PIPE:
            stdin, end = os.pipe()
            self.stdin = os.fdopen(end, "wb", 0)
            given.append(stdin)
        if stdout == subprocess.PIPE:
            end, stdout = os.pipe()
            self.stdout = os.fdopen(end, "rb")
            given.append(stdout)
        if stderr == subprocess.STDOUT:
            stderr = stdout
        files = [f if isinstance(f, int) else f.fileno() for f in (stdin, stdout, stderr)]
        self._connection = _connect(os.environ[ADDRESS], command[1:], files, env)
        for file in given:
            os.close(file)
        self._answers = self._connection.makefile()
        self.pid, self.returncode = int(self._answers.readline()), None
        self._lock = threading.Lock()

    def wait(self, timeout=None):
        """As that of a process; threads may share it."""
        if self.returncode is None and not select.select([self._connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a fork", timeout)
        with self._lock:
            if self.returncode is None:
                self.returncode = int(self._answers.readline())
        return self.returncode

    def terminate(self):
        """As that of a process."""
        self._send(signal.SIGTERM)

    def kill(self):
        """As that of a process."""
        self._send(signal.SIGKILL)

    def _send(self, number):
        if self.returncode is None:
            os.kill(self.pid, number)


class ForkServer:
    """The process that forks; a context.

    Attributes:
        address: of its socket.
    """

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.address = str(Path(self._folder.name) / "socket")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2"}
        command = [sys.executable, __file__, self.address]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()


FORKS = SimpleNamespace(**{**vars(subprocess), "Popen": Forked})
"""``subprocess`` of a module whose processes are to be forks of the server at :data:`ADDRESS`."""


def _connect(address: str, arguments: list, files: list[int], environment) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    job = {
        "arguments": [str(argument) for argument in arguments],
        "environment": dict(environment),
        "folder": os.getcwd(),
    }
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
    connection.sendmsg([b"\n"], ancillary)
    connection.sendall(json.dumps(job).encode() + b"\n")
    return connection


def _serve(address: str) -> list[str]:
    """Fork for every connection; returns in the forks only, with the arguments of the command."""
    import importlib

    import torch
    from zygote import IMPORTED

    from recbole_mm.tools import children

    for name in IMPORTED:
        importlib.import_module(name)
    torch.set_num_threads(1)
    children.subprocess = FORKS
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        os.write(1, b"ready\n")
        while True:
            readable, _, _ = select.select([listener, 0], [], [])
            _reap()
            if 0 in readable:
                os._exit(0)
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
    return _become(connection)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):  # there is none
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(connection: socket.socket) -> list[str]:
    """In a fork: fork the command, which returns, and report its process and status."""
    _, files, *_ = socket.recv_fds(connection, 1, FILES)
    with connection.makefile() as stream:
        job = json.loads(stream.readline())
    child = os.fork()
    if child:
        for number in (*range(FILES), *files):
            os.close(number)
        connection.sendall(f"{child}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            connection.sendall(f"{status}\n".encode())
        finally:
            os._exit(0)
    connection.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    encoding = job["environment"].get("PYTHONIOENCODING")
    sys.stdin = os.fdopen(0, encoding=encoding, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding=encoding, errors="backslashreplace", closefd=False)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    paths = job["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [path for path in paths if path and path not in sys.path]
    return job["arguments"]


def _run(arguments: list[str]) -> None:
    """What ``python ARGUMENT...`` does, for ``-c PROGRAM``, ``-m MODULE`` and a script."""
    import runpy

    if arguments[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
    elif arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


def _ask(address: str, arguments: list[str]) -> int:
    os.environ[ADDRESS] = address
    files = dict(zip(("stdin", "stdout", "stderr"), range(FILES), strict=True))
    status = Forked([sys.executable, *arguments], **files, env=os.environ).wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(_ask(sys.argv[1], sys.argv[2:]))
    _run(_serve(sys.argv[1]))
