"""Downloads over HTTP: resumed, retried, checked, from the first mirror that has them."""

import contextlib
import gzip
import shutil
import time
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import requests
from requests.exceptions import ConnectionError, Timeout
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from recbole_mm.prepare.mirrors import file_name
from recbole_mm.prepare.web import RefusedAddress
from recbole_mm.tools.files import move_onto, write_json
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.json_text import parse_json
from recbole_mm.tools.locks import lock

TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
BLOCK = 1 << 20
TIMEOUT = (15, 60)
"""Timeouts in seconds: to connect, and between two pieces."""
MAX_WAIT = 60.0
KEPT_FREE = 256 << 20
"""Bytes that a download leaves free on the disk."""
SHOWN = 50 * BLOCK
"""Bytes from which on a file has a progress bar."""


class DownloadError(OSError):
    """A file that could not be downloaded, and why."""


class NotTransferred(Exception):
    """A failed transfer from one address.

    Attributes:
        is_final: whether another attempt is useless.
        is_connected: whether a server answered.
    """

    def __init__(self, why: str, is_final: bool = True, is_connected: bool = True):
        super().__init__(why)
        self.is_final, self.is_connected = is_final, is_connected


class Patience(NamedTuple):
    """Limits on the attempts at one address.

    Attributes:
        retries: further attempts after an interrupted transfer or a temporary error.
        pause: seconds before the second attempt, doubled for each further one.
        seconds: time limit of one attempt, ``None`` for no limit.
        largest: size limit in bytes, ``None`` for what the disk holds.
    """

    retries: int = 5
    pause: float = 1.0
    seconds: float | None = None
    largest: int | None = None


PATIENCE = Patience()
UNREACHABLE_RETRIES = 2
"""Limit on the retries if nothing answers, since there may be no network."""


def fetch(
    urls,
    folder,
    session: requests.Session,
    sha256: dict | None = None,
    patience: Patience = PATIENCE,
) -> Path:
    """Download one file, named as at its address.

    An interrupted transfer is resumed, in this run or the next; an existing file is not downloaded
    again.

    Args:
        urls: addresses of the mirrors, tried in order.
        folder: target folder.
        session: session from :func:`recbole_mm.prepare.web.open_session`.
        sha256: file name -> hash to check.
        patience: limits for each mirror.

    Raises:
        DownloadError: no mirror gave the complete file, of the right kind and with the right hash
            (the message has the reason for each), or the disk is full.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in urls:
        target = folder / file_name(url)
        if target.is_file():
            return target
        transfer = Transfer(url, target, session, patience)
        try:
            transfer.run()
            _check_kind(transfer, target.suffix)
            _check_hash(transfer, (sha256 or {}).get(target.name))
        except NotTransferred as error:
            reasons.append(f"  {url}: {error}")
            continue
        transfer.finish()
        return target
    raise DownloadError("no mirror gave the file:\n" + "\n".join(reasons))


class Transfer:
    """Download of one file from one address to ``<target>.part``, which a later attempt resumes.

    Args:
        url: address of the file.
        target: path of the complete file.
        session: session from :func:`recbole_mm.prepare.web.open_session`.
        patience: limits for this address.
    """

    def __init__(self, url: str, target: Path, session: requests.Session, patience: Patience):
        self.url, self.target, self.session, self.patience = url, target, session, patience
        self.part = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")
        """File with the address and the tag by which the server recognizes the rest."""

    def run(self) -> None:
        """Download into the part file.

        Raises:
            NotTransferred: the address does not give the file.
            DownloadError: the disk is full.
        """
        attempt = 0
        while True:
            try:
                return self._attempt()
            except NotTransferred as error:
                limit = self.patience.retries if error.is_connected else UNREACHABLE_RETRIES
                if error.is_final:
                    raise
                if attempt >= min(limit, self.patience.retries):
                    why = f"{error} (gave up after {attempt + 1} attempts)"
                    raise NotTransferred(why, False, error.is_connected) from error
            time.sleep(min(self.patience.pause * 2**attempt, MAX_WAIT))
            attempt += 1

    def finish(self) -> None:
        """Give the file its final name, as the last step: an existing file counts as complete."""
        self.note.unlink(missing_ok=True)
        move_onto(self.part, self.target)

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _attempt(self) -> None:
        have, tag = self._kept()
        headers = {"Range": f"bytes={have}-", "If-Range": tag} if have else {}
        with _network_errors(), self._ask(headers) as response:
            self._check_status(response, have)
            resumes = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            start = have if response.status_code == 206 and resumes else 0
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if length.isdecimal() else None
            self._check_size(total, start)
            self._remember(response)
            with self._alone():
                size = self._copy(response, start, total)
        if total is not None and size != total:
            raise NotTransferred(f"received {size} of {total} bytes", is_final=False)

    def _ask(self, headers: dict) -> requests.Response:
        try:
            return self.session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT)
        except (ConnectionError, Timeout) as error:
            why = f"{type(error).__name__}: {error}"
            raise NotTransferred(why, is_final=False, is_connected=False) from error
        except (requests.RequestException, RefusedAddress, HTTPError, ValueError) as error:
            # an address with another scheme, with odd characters, in a private network, ...
            raise NotTransferred(f"not a usable address: {error}") from error

    def _kept(self) -> tuple[int, str]:
        """Bytes of the part that can be kept, and the tag by which the server recognizes them."""
        try:
            known = parse_json(self.note.read_text(encoding="utf-8"))
            if known["url"] == self.url and isinstance(known["tag"], str):
                return self.part.stat().st_size, known["tag"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # missing, from another mirror, or damaged
        return 0, ""

    def _remember(self, response) -> None:
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if tag and not tag.startswith("W/"):
            write_json(self.note, {"url": self.url, "tag": tag})
        else:
            self.note.unlink(missing_ok=True)

    def _check_status(self, response, have: int) -> None:
        code = response.status_code
        if code in (200, 206):
            return
        if code == 416 and have:  # the part is longer than the file, or complete
            self.discard()
        elif code in TRY_AGAIN:
            wait = response.headers.get("Retry-After", "")
            time.sleep(min(float(wait), MAX_WAIT) if wait.isdecimal() else 0)
        else:
            raise NotTransferred(f"HTTP {code} {response.reason}")
        raise NotTransferred(f"HTTP {code} {response.reason}", is_final=False)

    def _check_size(self, size: int | None, have: int) -> None:
        largest = self.patience.largest
        if largest is not None and size is not None and size > largest:
            raise NotTransferred(f"{_mega(size)} MB, the limit is {_mega(largest)} MB")
        room = shutil.disk_usage(self.part.parent).free - KEPT_FREE
        to_come = 0 if size is None else size - have
        if to_come > room:
            raise DownloadError(
                f"{self.url}: {_mega(to_come)} MB are still to come, but the disk of "
                f"{self.part.parent} has room for {_mega(max(room, 0))} MB; free some space, or "
                f"use a folder on another disk."
            )

    def _copy(self, response, start: int, total: int | None) -> int:
        deadline = time.monotonic() + (self.patience.seconds or float("inf"))
        self.part.touch()
        with (
            open(self.part, "r+b") as file,
            tqdm(
                total=total, initial=start, desc=self.target.name, unit="B", unit_scale=True,
                disable=None if total is None or total >= SHOWN else True,
            ) as bar,
        ):  # fmt: skip
            file.seek(start)
            file.truncate()
            while block := response.raw.read1(BLOCK, decode_content=False):
                file.write(block)
                bar.update(len(block))
                if total is None:
                    self._check_size(file.tell(), file.tell())
                if time.monotonic() > deadline:
                    why = f"it took longer than {self.patience.seconds:.0f} s"
                    raise NotTransferred(why, is_final=False)
            return file.tell()

    @contextlib.contextmanager
    def _alone(self):
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lock(f"{self.part}.lock"))
            except BlockingIOError as error:
                why = "another process is downloading this file; wait for it"
                raise NotTransferred(why) from error
            yield


@contextlib.contextmanager
def _network_errors():
    """Turn network errors during a transfer into a failed attempt."""
    try:
        yield
    except (HTTPError, HTTPException) as error:
        why = f"it broke off ({type(error).__name__}: {error})"
        raise NotTransferred(why, is_final=False) from error


def _check_kind(transfer: Transfer, ending: str) -> None:
    """Refuse an HTML page, an empty file, and a ``.gz`` file that is not gzip or is truncated."""
    with open(transfer.part, "rb") as file:
        start = file.read(512)
    why = None
    if not start:
        why = "an empty file"
    elif start.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        why = "an HTML page instead of the file"
    elif ending == ".gz":
        try:
            with gzip.open(transfer.part, "rb") as file:
                while file.read(BLOCK):
                    pass
        except (OSError, EOFError, zlib.error) as error:
            why = f"not a complete gzip file ({error})"
    if why:
        transfer.discard()
        raise NotTransferred(why)


def _check_hash(transfer: Transfer, expected: str | None) -> None:
    found = sha256_of_file(transfer.part) if expected else None
    if found != expected:
        transfer.discard()
        raise NotTransferred(f"its SHA-256 is {found}, but the mirrors file has {expected}")


def _mega(size: int) -> str:
    return f"{size / 1e6:,.0f}"
