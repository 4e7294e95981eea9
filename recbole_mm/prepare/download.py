"""Files and pictures over HTTP: resumed, retried, checked, from the first mirror that has them."""

import gzip
import http.client
import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from recbole_mm.tools.files import whole_or_not, write_json
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.pictures import PICTURE_ERRORS, open_picture

AGENT = {"User-Agent": "recbole_mm dataset scripts (research)"}
TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
BLOCK = 1 << 20
TIMEOUT = 60
MAX_WAIT = 60.0


class DownloadError(OSError):
    """A file that no mirror gave; the message has each mirror's reason."""


class _Refused(Exception):
    """This address will not give the file: go to the next one."""


def fetch(
    urls: list[str], folder, sha256: dict | None = None, retries: int = 5, pause: float = 1.0
) -> Path:
    """Download one file, named as at its address.

    A broken transfer goes on where it stopped, in this run or the next; a file that is there is
    not fetched again.

    Args:
        urls: mirrors, tried in order.
        folder: where the file goes.
        sha256: file name -> hash to check.
        retries: attempts per mirror after transfers that break off and after passing errors.
        pause: seconds before the second attempt, doubled for each further one.

    Raises:
        DownloadError: no mirror gave the file whole, of its kind and with its hash.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in urls:
        target = folder / url.rsplit("/", 1)[-1]
        if target.is_file():
            return target
        try:
            _fetch_from(url, target, retries, pause)
            _check_kind(target.with_name(target.name + ".part"), target.suffix)
            _check_hash(target, (sha256 or {}).get(target.name))
        except _Refused as error:
            reasons.append(f"  {url}: {error}")
            continue
        target.with_name(target.name + ".part").rename(target)
        target.with_name(target.name + ".part.json").unlink(missing_ok=True)
        return target
    listing = "\n".join(reasons)
    raise DownloadError(
        f"{folder}: none of {len(urls)} mirrors gave the file:\n{listing}\nThe same command goes "
        f"on where it stopped. Add a mirror (--mirrors=FILE), or put the file into "
        f"the folder yourself."
    )


def fetch_pictures(
    pictures: dict[str, str], folder, workers: int = 4, retries: int = 2, pause: float = 1.0
) -> dict[str, str]:
    """Download pictures by item, a few at a time, and keep only what Pillow can open.

    Args:
        pictures: item token -> address.
        folder: gets ``<item>.jpg`` (the address's ending), and ``report.json`` with what could
            not be had and why. Items of the report that are final (no such picture) are not asked
            for again.
        workers: transfers at a time.

    Returns:
        item token -> file name, of the pictures that are there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.json"
    failed = json.loads(report.read_text()) if report.is_file() else {}
    names = {item: f"{item}{_picture_ending(url)}" for item, url in pictures.items()}
    wanted = [
        item
        for item in pictures
        if not (folder / names[item]).is_file() and not failed.get(item, {}).get("final")
    ]

    def attempt(item):
        try:
            _fetch_picture(pictures[item], folder / names[item], retries, pause)
            return item, None
        except _Refused as error:
            final = not str(error).startswith(_BROKE_OFF)
            return item, {"url": pictures[item], "why": str(error), "final": final}

    with ThreadPoolExecutor(workers) as pool:
        for item, failure in tqdm(
            pool.map(attempt, wanted), "pictures", len(wanted), disable=len(wanted) < 100
        ):
            failed.pop(item, None)
            if failure:
                failed[item] = failure
    write_json(report, dict(sorted(failed.items())))
    return {item: name for item, name in names.items() if (folder / name).is_file()}


_BROKE_OFF = "gave up"


def _fetch_from(url: str, target: Path, retries: int, pause: float) -> None:
    """Fill ``<target>.part`` from one address."""
    part = target.with_name(target.name + ".part")
    note = target.with_name(target.name + ".part.json")
    why = ""
    for attempt in range(retries + 1):
        if attempt:
            time.sleep(min(pause * 2 ** (attempt - 1), MAX_WAIT))
        have = part.stat().st_size if part.is_file() else 0
        known = json.loads(note.read_text()) if note.is_file() and have else {}
        if known.get("url") != url or not known.get("tag"):
            have = 0  # of another mirror, or nothing to recognize it by
        request = urllib.request.Request(url, headers=AGENT)
        if have:
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", known["tag"])
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                goes_on = response.status == 206
                total = _total_size(response, have if goes_on else 0)
                tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
                if tag and not tag.startswith("W/"):
                    write_json(note, {"url": url, "tag": tag})
                else:
                    note.unlink(missing_ok=True)
                _copy(response, part, have if goes_on else 0, total, target.name)
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:  # the part is longer than the file, or whole
                part.unlink()
            elif error.code not in TRY_AGAIN:
                raise _Refused(f"HTTP {error.code} {error.reason}") from error
            why = f"HTTP {error.code} {error.reason}"
            wait = error.headers.get("Retry-After", "")
            time.sleep(min(float(wait), MAX_WAIT) if wait.isdigit() else 0)
            continue
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            why = f"{type(error).__name__}: {error}"
            continue
        size = part.stat().st_size
        if total is None or size == total:
            return
        why = f"{size} of {total} bytes came"
    raise _Refused(f"{_BROKE_OFF} after {retries + 1} attempts, the last: {why}")


def _copy(response, part: Path, start: int, total: int | None, label: str) -> None:
    part.touch()
    with (
        open(part, "r+b") as file,
        tqdm(
            total=total, initial=start, desc=label, unit="B", unit_scale=True,
            disable=total is None or total < 50 * BLOCK,
        ) as bar,
    ):  # fmt: skip
        file.seek(start)
        file.truncate()
        while block := response.read(BLOCK):
            file.write(block)
            bar.update(len(block))


def _total_size(response, start: int) -> int | None:
    length = response.headers.get("Content-Length")
    return None if length is None else start + int(length)


def _check_kind(part: Path, ending: str) -> None:
    """Refuse an HTML page, an empty file, and a ``.gz`` that is none or is cut."""
    with open(part, "rb") as file:
        start = file.read(512)
    why = None
    if not start:
        why = "an empty file"
    elif start.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        why = "an HTML page instead of the file"
    elif ending == ".gz":
        try:
            with gzip.open(part, "rb") as file:
                while file.read(BLOCK):
                    pass
        except (OSError, EOFError) as error:
            why = f"no whole gzip file ({error})"
    if why:
        _discard(part)
        raise _Refused(why)


def _check_hash(target: Path, expected: str | None) -> None:
    part = target.with_name(target.name + ".part")
    found = sha256_of_file(part) if expected else None
    if found != expected:
        _discard(part)
        raise _Refused(f"sha256 is {found}, mirrors.yaml has {expected}")


def _fetch_picture(url: str, target: Path, retries: int, pause: float) -> None:
    _fetch_from(url, target, retries, pause)
    part = target.with_name(target.name + ".part")
    target.with_name(target.name + ".part.json").unlink(missing_ok=True)
    try:
        with open_picture(part) as picture:
            picture.load()
        with whole_or_not(target) as temporary:
            part.rename(temporary)
    except PICTURE_ERRORS as error:
        _discard(part)
        raise _Refused(f"no picture: {error}") from error


def _discard(part: Path) -> None:
    part.unlink()
    part.with_name(part.name + ".json").unlink(missing_ok=True)


def _picture_ending(url: str) -> str:
    ending = Path(url.split("?")[0]).suffix.lower()
    return ending if ending in (".jpg", ".jpeg", ".png", ".gif", ".webp") else ".jpg"
