"""A server on this machine that breaks off, refuses, lies and stutters as it is asked to."""

import contextlib
import http.server
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path: ``plan[path]`` is a list of behaviours, used up one request at a time."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        body = server.files.get(self.path.lstrip("/"))
        plan = server.plan.get(self.path.lstrip("/"), [])
        behaviour = plan.pop(0) if plan else "fine"
        if isinstance(behaviour, dict):
            return self.answer(behaviour.pop("status"), b"", **behaviour)
        if body is None:
            return self.answer(404, b"")
        if isinstance(behaviour, int):
            return self.answer(behaviour, b"busy")
        if behaviour == "html":
            return self.answer(200, b"<!DOCTYPE html><html>Please log in</html>")
        if behaviour == "slow":
            return self.drip()
        if behaviour == "unannounced":
            self.close_connection = True
            return self.answer(200, body, **{"Content-Length": None, "Connection": "close"})
        start = self.first_byte()
        status = 206 if start else 200
        more = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        if behaviour == "another range":
            return self.answer(206, body, **{"Content-Range": f"bytes 0-{len(body) - 1}/*"})
        if behaviour == "breaks off":
            half = start + (len(body) - start) // 2
            length = {"Content-Length": str(len(body) - start)}
            self.answer(status, body[start:half], **more, **length)
            self.close_connection = True
            return None
        return self.answer(status, body[start:], **more)

    def first_byte(self) -> int:
        server, asked = self.server, self.headers.get("Range")
        if not asked or not server.resumes or self.headers.get("If-Range") != server.tag:
            return 0
        return int(asked.removeprefix("bytes=").rstrip("-"))

    def answer(self, status, body, **headers):
        headers = {"Content-Length": str(len(body)), "ETag": self.server.tag} | headers
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def drip(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.05)
        self.close_connection = True

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(files: dict[str, bytes]):
    """The server, with ``files``, ``plan``, ``asked``, ``tag``, ``resumes`` and ``url``."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.plan, server.asked = dict(files), {}, []
    server.tag, server.resumes = '"v1"', True
    server.host = f"127.0.0.1:{server.server_port}"
    server.url = f"http://{server.host}"
    server.handle_error = lambda *_: None  # a client that was killed
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
