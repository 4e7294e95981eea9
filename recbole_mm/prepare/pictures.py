"""Pictures of items over HTTP: a few at a time, each checked; a failure stops no other."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from tqdm import tqdm

from recbole_mm.prepare.download import DownloadError, NotTransferred, Patience, Transfer
from recbole_mm.tools.file_names import safe_names
from recbole_mm.tools.files import write_json
from recbole_mm.tools.json_text import parse_json
from recbole_mm.tools.pictures import PictureError, read_picture

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".webp")
PATIENCE = Patience(retries=2, seconds=120, largest=32_000_000)
WORKERS = 4
UNREACHABLE = 24
"""Number of pictures in a row without any answer after which the network is considered down."""


class Failure(NamedTuple):
    """A picture that could not be downloaded.

    Attributes:
        url: address of the picture.
        why: reason of the failure.
        is_final: whether it is not requested again.
    """

    url: str
    why: str
    is_final: bool


class Pictures(NamedTuple):
    """The contents of a folder of pictures.

    Attributes:
        names: item -> file name.
        failed: item -> why it has none.
    """

    names: dict[str, str]
    failed: dict[str, Failure]

    def reasons(self) -> dict[str, int]:
        """Number of failed pictures by reason, the most frequent first."""
        counts = Counter(re.split(r": | \(", failure.why)[0] for failure in self.failed.values())
        return dict(counts.most_common())


def fetch_pictures(
    urls: dict[str, str], folder, session, patience: Patience = PATIENCE, workers: int = WORKERS
) -> Pictures:
    """Download pictures of items, and keep the valid ones.

    Args:
        urls: item -> address.
        folder: target folder of the pictures, named after their items, and of ``report.json``,
            which lists the failures. Existing pictures, with any usual ending, are not requested;
            nor are pictures in the report whose failure was final.
        session: session from :func:`recbole_mm.prepare.web.open_session`.
        patience: limits for each picture.
        workers: number of simultaneous transfers.

    Raises:
        DownloadError: nothing answered for many pictures in a row, or the disk is full. The
            pictures downloaded so far are kept.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    urls = {item: url.encode("utf-8", "backslashreplace").decode() for item, url in urls.items()}
    report, stems = folder / "report.json", safe_names(urls)
    present, failed = _pictures_in(folder), _read_report(report)
    missing = [item for item in urls if stems[item] not in present]
    failed = {item: failed[item] for item in missing if item in failed}
    wanted = [item for item in missing if not _is_hopeless(failed.get(item), urls[item])]

    def attempt(item):
        return item, *_fetch_picture(urls[item], folder / stems[item], session, patience)

    pool, unreachable = ThreadPoolExecutor(workers), 0
    try:
        bar = tqdm(pool.map(attempt, wanted), "pictures", len(wanted), disable=None)
        for item, failure, is_connected in bar:
            failed.pop(item, None)
            if failure is not None:
                failed[item] = failure
            unreachable = 0 if is_connected else unreachable + 1
            if unreachable == UNREACHABLE:
                raise DownloadError(f"nothing answers: {failed[item].url}: {failed[item].why}")
    finally:
        pool.shutdown(cancel_futures=True)
        write_json(report, {item: failed[item]._asdict() for item in sorted(failed)})
    present = _pictures_in(folder)
    names = {item: present[stem] for item, stem in stems.items() if stem in present}
    return Pictures(names, failed)


def _fetch_picture(url, path: Path, session, patience):
    """Download into ``path`` with the ending of the address: the failure, if any, and whether
    anything answered."""
    target = path.with_name(path.name + _ending(url))
    transfer = Transfer(url, target, session, patience)
    try:
        transfer.run()
    except NotTransferred as error:
        return Failure(url, str(error), error.is_final), error.is_connected
    try:
        read_picture(transfer.part)
    except PictureError as error:
        transfer.discard()
        why = str(error).removeprefix(f"{transfer.part}: ")
        return Failure(url, f"not a picture: {why}", True), True
    transfer.finish()
    return None, True


def _is_hopeless(failure: Failure | None, url: str) -> bool:
    return failure is not None and failure.is_final and failure.url == url


def _pictures_in(folder: Path) -> dict[str, str]:
    """File names by their stems."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    return {path.stem: path.name for path in paths}


def _read_report(path: Path) -> dict[str, Failure]:
    """Failures of earlier runs; a damaged report is ignored, its pictures are requested again."""
    if not path.is_file():
        return {}
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        return {item: Failure(**failure) for item, failure in content.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        print(f"{path}: damaged; the pictures that it names are requested again")
        return {}


def _ending(url: str) -> str:
    try:
        ending = PurePosixPath(urlsplit(url).path).suffix.lower()
    except ValueError:
        return ".jpg"
    return ending if ending in ENDINGS else ".jpg"
