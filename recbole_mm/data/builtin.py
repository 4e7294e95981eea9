r"""Data sets that need no preparation: they are created, or completed, on first use."""

import logging
import shutil
from pathlib import Path

from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.tools.files import require_writable, scratch_folder, whole_or_not

logger = logging.getLogger(__name__)

DEMO_TABLES = ("demo.inter", "demo.item")
DEMO_FEATURES = ("demo.text.npz", "demo.image.npz")
FIX = "Give another folder with --data_path (or --feature_path)"


def ensure_builtin(config) -> None:
    """Create the missing files of ``config['dataset']`` if it is one of :data:`BUILTIN`.

    Args:
        config: RecBole's configuration, with ``dataset``, ``data_path`` (the folder of the data
            set) and ``feature_path`` (the folder of its feature files; ``None``: the same folder).

    Raises:
        UserError: the folder cannot be written to.
    """
    name = config["dataset"]
    if name in BUILTIN:
        data_path = Path(config["data_path"])
        BUILTIN[name](data_path, Path(config["feature_path"] or data_path))


def ensure_demo(data_path: Path, feature_folder: Path) -> None:
    """Create the demo set (:mod:`recbole_mm.data.demo`); existing files are not changed.

    Nothing is added to a user's feature folder that already contains features of the demo.
    """
    places = {name: data_path / name for name in DEMO_TABLES}
    if feature_folder == data_path or not any(feature_folder.glob("demo.*.npz")):
        places |= {name: feature_folder / name for name in DEMO_FEATURES}
    missing = {name: place for name, place in places.items() if not place.is_file()}
    if not missing:
        return
    logger.info(f"making the demo data set in [{data_path}], once")
    from recbole_mm.data import demo

    folders = list(dict.fromkeys(place.parent for place in missing.values()))
    for folder in folders:
        require_writable(folder, FIX)
    with scratch_folder(folders[0], ".demo-") as scratch:
        made = demo.make_demo(scratch / "demo")
        if not missing.keys().isdisjoint(DEMO_TABLES):
            pictures = [str(path.relative_to(made)) for path in made.glob("*/*")]
            missing = {name: data_path / name for name in pictures} | missing
        for name, place in sorted(missing.items(), key=lambda item: item[0] == "demo.inter"):
            with whole_or_not(place) as temporary:
                shutil.copyfile(made / name, temporary)


def ensure_ml_100k(data_path: Path, feature_folder: Path) -> None:
    """Create text features (title, year, genres) for the MovieLens-100k in RecBole's wheel."""
    path = feature_path(feature_folder, "ml-100k", "text")
    items = data_path / "ml-100k.item"
    if path.is_file() or not items.is_file():
        return
    logger.info(f"making text features of ml-100k in [{path}], once")
    require_writable(feature_folder, FIX)
    import polars as pl

    from recbole_mm.data.atomic_files import read_atomic_file
    from recbole_mm.data.extractor import fit_texts

    table = read_atomic_file(items).fill_null("")
    fields = ["movie_title", "release_year", "class"]
    texts = table.select(pl.concat_str(fields, separator=" "))
    vectors, space = fit_texts(texts.to_series().to_list())
    info = {
        "encoder": "embedded",
        "dimension": vectors.shape[1],
        "normalization": "l2",
        "coverage": 1.0,
        "input": fields,
    }
    write_item_features(path, table["item_id"].to_list(), vectors, info, space.to_arrays())


BUILTIN = {"demo": ensure_demo, "ml-100k": ensure_ml_100k}
"""Functions that create data sets on first use, by data set."""
