import socket

import pytest
from web_server import serving

from recbole_mm.prepare.web import RefusedAddress, open_session


@pytest.fixture
def server():
    with serving({"a": b"content"}) as server:
        yield server


def test_a_host_in_a_private_network_is_refused_unless_it_is_trusted(server):
    url = f"{server.url}/a"

    with pytest.raises(RefusedAddress, match=r"127.0.0.1, which is in a private network.*trusted"):
        open_session().get(url)
    assert server.asked == []
    assert open_session({server.host}).get(url).content == b"content"
    assert open_session({"127.0.0.1"}).get(url).content == b"content"


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1"])
def test_no_way_of_writing_the_address_helps(server, host):
    with pytest.raises(RefusedAddress):
        open_session().get(f"http://{host}:{server.server_port}/a")
    assert server.asked == []


def test_a_name_that_resolves_to_a_private_address_is_refused(server, monkeypatch):
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, *args, **kw: resolve("127.0.0.1", *args, **kw)
    )

    with pytest.raises(RefusedAddress, match="shop.example has the address 127.0.0.1"):
        open_session().get(f"http://shop.example:{server.server_port}/a")
    assert server.asked == []


def test_a_redirect_into_a_private_network_is_refused(server):
    with serving({"secret": b"x"}) as private:
        server.plan["a"] = [{"status": 302, "Location": f"{private.url}/secret"}]

        with pytest.raises(RefusedAddress):
            open_session({server.host}).get(f"{server.url}/a")
        assert private.asked == []


@pytest.mark.parametrize("scheme", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_only_http_and_https_are_asked_also_after_a_redirect(server, scheme):
    session = open_session({server.host})

    with pytest.raises(ValueError, match="No connection adapters"):
        session.get(scheme)
    server.plan["a"] = [{"status": 302, "Location": scheme}]
    with pytest.raises(ValueError, match="No connection adapters"):
        session.get(f"{server.url}/a")


def test_a_proxy_may_be_private_but_not_what_is_asked_through_it(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    server.files["http://8.8.8.8/a"] = b"by proxy"

    assert open_session().get("http://8.8.8.8/a").content == b"by proxy"
    with pytest.raises(RefusedAddress):
        open_session().get("http://10.0.0.1/a")
    assert open_session().get("http://unknown.invalid/a").status_code == 404
