"""The address that a server listens on, bound before anything heavy is loaded."""

import errno
import os
import socket

from recbole_mm.tools.errors import UserError

LARGEST_PORT = 65_535
EVERY_ADDRESS = ("0.0.0.0", "::")
OF_THE_PORT = (errno.EADDRINUSE, errno.EACCES)
"""Errors after which another port works."""


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket with this address, which does not listen yet.

    Args:
        host: name or address of this machine; ``0.0.0.0`` or ``::``: all its addresses.
        port: number up to :data:`LARGEST_PORT`; 0: any free port.

    Raises:
        UserError: there is no such port, it is in use, or the address does not belong to this
            machine.
    """
    if not 0 <= port <= LARGEST_PORT:
        raise UserError(
            f"--port={port}: give a number from 1 to {LARGEST_PORT}, or 0 for any free port"
        )
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # elsewhere it would share a port that is in use
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except (OSError, UnicodeError) as error:
        raise UserError(f"cannot listen on {host}:{port}: {_reason(error)}") from error
    return bound


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, OSError) and error.errno in OF_THE_PORT:
        why = "is in use" if error.errno == errno.EADDRINUSE else "may not be used by this user"
        return f"the port {why}; give another --port"
    return "the address does not belong to this machine; give another --host"


def url_of(bound: socket.socket) -> str:
    """The address to open in a browser."""
    host, port = bound.getsockname()[:2]
    name = "localhost" if host in EVERY_ADDRESS else host
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
