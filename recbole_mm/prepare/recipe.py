"""What an Amazon data set is made from; sends no request and reads no files."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from recbole_mm.prepare.inputs import InputError, require_file
from recbole_mm.prepare.mirrors import DEFAULT_LAYOUT, Source, file_name
from recbole_mm.tools.command_lines import shell_line


@dataclass(frozen=True)
class Recipe:
    """What a data set is made from, and how.

    Attributes:
        name: name of the data set.
        layout: year of the collection.
        output: folder of the data sets.
        raw: folder of the reviews and the metadata.
        source: addresses of these files; ``None`` if the user names the files.
        reviews: the user's file of reviews.
        meta: the user's file of metadata.
        download: whether to download what is not in ``raw``.
        pictures: whether to download the items' pictures.
        core: k of the iterated k-core.
        repeats: treatment of a user's repeated reviews of an item: keep, first or last.
    """

    name: str
    layout: int
    output: Path
    raw: Path
    source: Source | None = None
    reviews: Path | None = None
    meta: Path | None = None
    download: bool = False
    pictures: bool = False
    core: int = 5
    repeats: Literal["keep", "first", "last"] = "first"

    @property
    def folder(self) -> Path:
        """Folder of the data set."""
        return self.output / self.name

    def file_there(self, kind: str) -> Path | None:
        """The file of ``reviews`` or ``meta`` in the raw folder, packed or not."""
        for url in getattr(self.source, kind):
            path = self.raw / file_name(url)
            for candidate in (path, path.with_suffix("") if path.suffix == ".gz" else path):
                if candidate.is_file():
                    return candidate
        return None

    def missing_files(self) -> str:
        """Lines with each missing file and the address from which it can be downloaded."""
        kinds = [kind for kind in ("reviews", "meta") if self.file_there(kind) is None]
        urls = [url for kind in kinds for url in getattr(self.source, kind)]
        return "\n".join(f"  {self.raw / file_name(url)} from {url}" for url in urls)

    def require_files(self) -> None:
        """Check that the files exist, or may be downloaded.

        Raises:
            InputError: files are missing; the message lists them.
        """
        named = [path for path in (self.reviews, self.meta) if path is not None]
        for path in named:
            require_file(path)
        if self.source is None or self.download:
            return
        missing = self.missing_files()
        if missing:
            raise InputError(
                f"{self.raw}: files are missing. Add --download, or put them there yourself, "
                f"packed or not, each from one of the addresses:\n{missing}"
            )

    def plain(self) -> dict:
        """The values that determine the tables, JSON-able."""
        without = ("download", "output", "raw")
        values = {key: value for key, value in asdict(self).items() if key not in without}
        return {key: str(v) if isinstance(v, Path) else v for key, v in values.items()}


def command_for(recipe: Recipe, encoder: str | None = None) -> str:
    """The command that makes an Amazon data set."""
    options = [f"--layout={recipe.layout}"] if recipe.layout != DEFAULT_LAYOUT else []
    options += [f"--encoder={encoder}"] if encoder else []
    options += [f"--output={recipe.output}"] if recipe.output != Path("dataset") else []
    options += ["--download"]
    options += ["--pictures"] if recipe.pictures else []
    return shell_line(["recbole-mm", "amazon", recipe.name, *options])
