"""Requests to addresses that come from outside: http and https only, and no private network."""

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection

AGENT = "recbole_mm data preparation (research)"
MAX_REDIRECTS = 5


class RefusedAddress(Exception):
    """An address in a private network, which is not contacted."""


def open_session(trusted_hosts: Collection[str] = (), connections: int = 4) -> requests.Session:
    """A session that keeps connections open and refuses addresses in private networks.

    The address of a connection is checked after its name is resolved and at every redirect, so a
    name cannot lead to an unchecked address. Behind a proxy, the name is resolved here too, if
    possible.

    Args:
        trusted_hosts: hosts, as ``host`` or ``host:port``, that may be in a private network.
        connections: number of connections kept open per host.
    """
    session = requests.Session()
    session.headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    session.max_redirects = MAX_REDIRECTS
    for scheme in list(session.adapters):
        session.mount(scheme, _PublicOnly(trusted_hosts, pool_maxsize=connections))
    return session


class _PublicOnly(HTTPAdapter):
    """Adapter that makes the connections of a session."""

    def __init__(self, trusted_hosts, **options):
        self.trusted_hosts = trusted_hosts
        super().__init__(**options)

    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, **kwargs)
        pools = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}
        self.poolmanager.pool_classes_by_scheme = {
            scheme: _guarded(pool, self.trusted_hosts) for scheme, pool in pools.items()
        }

    def send(self, request, stream=False, timeout=None, verify=True, cert=None, proxies=None):
        if select_proxy(request.url, proxies):
            host, port = _host_and_port(request.url)
            if not _is_trusted(host, port, self.trusted_hosts):
                for address in _addresses(host, port):
                    _refuse_private(host, port, address)
        return super().send(request, stream, timeout, verify, cert, proxies)


class _EndsInPrivateNetworks(HTTPConnection):
    """Mixin of a connection: closes it before anything is sent if it leads into a private
    network."""

    trusted_hosts: Collection[str]

    def _new_conn(self):
        connected = super()._new_conn()
        try:
            if not _is_trusted(self.host, self.port, self.trusted_hosts):
                _refuse_private(self.host, self.port, connected.getpeername()[0])
        except RefusedAddress:
            connected.close()
            raise
        return connected


def _guarded(pool_class, trusted_hosts):
    bases = (_EndsInPrivateNetworks, pool_class.ConnectionCls)
    connection = type("GuardedConnection", bases, {"trusted_hosts": trusted_hosts})
    return type("GuardedPool", (pool_class,), {"ConnectionCls": connection})


def _is_trusted(host: str, port: int, trusted_hosts) -> bool:
    return host in trusted_hosts or f"{host}:{port}" in trusted_hosts


def _refuse_private(host: str, port: int, address: str) -> None:
    found = ipaddress.ip_address(address)
    if not found.is_global or found.is_multicast:
        raise RefusedAddress(
            f"{host} has the address {found}, which is in a private network; if that is right, "
            f"name {host}:{port} under trusted_hosts in a mirrors file (--mirrors=FILE)"
        )


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _addresses(host: str, port: int) -> list[str]:
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError:  # only the proxy knows the name
        return []
