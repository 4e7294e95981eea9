"""The server of ``recbole-mm serve``: the page, and answers in JSON.

``POST /recommend`` takes an object with attributes of
:class:`~recbole_mm.recommend.query.Query`, and returns one with those of
:class:`~recbole_mm.recommend.service.Recommended`. ``GET /health`` returns the name of the model and
the number of its items. An error is an object with the key ``error``; its status is 400 if the
request cannot be answered, 413 if it is too large, and 500 if the model or the server has failed.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn  # with FastAPI, what Gradio is served by
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from recbole_mm.recommend.explain import Reason
from recbole_mm.recommend.listening import url_of
from recbole_mm.recommend.query import query_of
from recbole_mm.recommend.service import Service
from recbole_mm.recommend.web_page import mount_page
from recbole_mm.tools.errors import RunFailed, UserError
from recbole_mm.tools.json_text import parse_json

MOST_BYTES = 4_000_000
"""Size of the largest request."""
LONGEST_END = 5.0
"""Seconds that requests have to finish when the server ends."""
STATUSES = {UserError: 400, RunFailed: 500, Exception: 500}


class TooLarge(UserError):
    """A request of more than :data:`MOST_BYTES`."""


def app_of(service: Service) -> FastAPI:
    """The page and the HTTP interface."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": service.model_name, "items": service.n_offered}

    @app.post("/recommend")
    async def recommend(request: Request) -> JSONResponse:
        query = query_of(await _json_of(request))
        answer = await run_in_threadpool(service.answer, query)
        rows = [_plain(reason) for reason in answer.recommended]
        return JSONResponse({"recommended": rows, "unknown": answer.unknown})

    for kind, status in {**STATUSES, TooLarge: 413}.items():
        app.add_exception_handler(kind, _responder(status))
    mount_page(app, service)
    return app


def _responder(status: int):
    def respond(_: Request, error: Exception) -> JSONResponse:
        known = isinstance(error, (UserError, RunFailed))
        message = str(error) if known else "the server has failed; its console has the reason"
        return JSONResponse({"error": message}, status)

    return respond


async def _json_of(request: Request) -> Any:
    """The content of a request.

    Raises:
        UserError: it is too large, or not JSON.
    """
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MOST_BYTES:
            raise TooLarge(f"the request is larger than {MOST_BYTES:,} bytes")
    try:
        return parse_json(bytes(content))
    except ValueError as error:
        raise UserError(f"the request is not JSON ({error})") from None


def _plain(reason: Reason) -> dict[str, Any]:
    nearest = {modality: found._asdict() for modality, found in reason.nearest.items()}
    return {**reason._asdict(), "nearest": nearest}


@contextmanager
def serving(app: FastAPI, bound: socket.socket) -> Iterator[str]:
    """Serve an application within the block, in a thread of its own.

    Args:
        app: result of :func:`app_of`.
        bound: result of :func:`~recbole_mm.recommend.listening.bound_socket`; it is closed at the end.

    Returns:
        context with the address of the page.

    Raises:
        RunFailed: the server does not start.
    """
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=int(LONGEST_END)
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    with bound:
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise RunFailed("the server has not started; the lines above have the reason")
                time.sleep(0.01)
            yield url_of(bound)
        finally:
            server.should_exit = True
            thread.join(2 * LONGEST_END)


def serve(service: Service, bound: socket.socket) -> None:
    """Serve until the process is interrupted; for the arguments see :func:`app_of` and
    :func:`serving`."""
    with serving(app_of(service), bound) as address:
        print(f"{address} (end with Ctrl-C)", flush=True)
        wait()


def wait() -> None:
    """Wait until the process is interrupted."""
    while True:
        time.sleep(1)
