"""Every reader of a file: small valid files, and what opens them."""

import contextlib
import gzip
import json
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
import yaml
from PIL import Image
from small_amazon import META, reviews_of
from test_convert import missrec_folder, mmm4rec_folder
from tiny import PRETRAIN, TINY_MMM4REC
from xlsx import write_xlsx
from zygote import can_tune_encoders

from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.tools.files import write_json
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.records import write_record

ITEMS, USERS, LENGTH = 12, 40, 7
MODEL = {**TINY_MMM4REC, "epochs": 1}


class Reader(NamedTuple):
    """Something that reads files.

    Attributes:
        name: of the reader.
        make: given the shelf and an empty folder, writes valid files into it and returns those that
            are damaged, each with its format (:mod:`mutations`).
        read: given the folder, reads them and returns something.
        speed: how many inputs it is given for each one of a slow reader.
    """

    name: str
    make: Callable[["Shelf", Path], dict[Path, str]]
    read: Callable[[Path], object]
    speed: int = 1


class Shelf:
    """What is made once and copied: a data set, a trained model, its bundle."""

    def __init__(self, root: Path):
        self.root = root

    @cached_property
    def dataset(self) -> Path:
        """A folder of data sets with ``toy``: tables, card, texts, pictures, features."""
        root = self.root / "dataset"
        folder = root / "toy"
        (folder / "images").mkdir(parents=True)
        rows = ["user_id:token\titem_id:token\ttimestamp:float"]
        for user in range(USERS):
            for step in range(LENGTH):
                rows.append(f"u{user}\ti{(user + step) % ITEMS}\t{1_400_000_000 + 86_400 * step}")
        (folder / "toy.inter").write_text("\n".join(rows) + "\n")
        rows = ["item_id:token\ttitle:token_seq\tprice:float\timage:token"]
        rows += [f"i{n}\tred kite {n}\t{n}.5\timages/i{n}.png" for n in range(ITEMS)]
        (folder / "toy.item").write_text("\n".join(rows) + "\n")
        for n in range(ITEMS):
            Image.new("RGB", (8, 8), (20 * n, 0, 9)).save(folder / "images" / f"i{n}.png")
        angle = 2 * np.pi * np.arange(ITEMS) / ITEMS
        circle = np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)])
        for modality, width in (("text", 4), ("image", 3)):
            tokens = [f"i{n}" for n in range(ITEMS)]
            values = circle.T[:, :width].astype(np.float32)
            info = {"encoder": "x", "dimension": width, "normalization": "none"}
            write_item_features(feature_path(folder, "toy", modality), tokens, values, info)
        from recbole_mm.prepare.prepared import PreparedDataset

        PreparedDataset(root, "toy").write_card(
            name="toy", users=USERS, items=ITEMS, interactions=USERS * LENGTH,
            items_without_interactions=0, pictures=".",
        )  # fmt: skip
        return root

    @cached_property
    def checkpoint(self) -> Path:
        """Of a trained MMM4Rec."""
        run = _run(self.dataset, self.root / "saved")
        run.train()
        return Path(run.trainer.saved_model_file)

    @cached_property
    def progress(self) -> Path:
        """The state before an epoch."""
        run = _run(self.dataset, self.root / "progress", ema_epochs=1.0)
        run.keep_progress(self.root / "progress/best.pth", self.root / "progress/latest.pth")
        run.train()
        return self.root / "progress" / "latest.pth"

    @cached_property
    def bundle(self) -> Path:
        from recbole_mm.recommend.recommender import Recommender

        Recommender.from_pretrained(self.checkpoint).save_pretrained(self.root / "bundle")
        return self.root / "bundle"

    @cached_property
    def text_encoder(self) -> Path:
        """A model of sentence-transformers that knows the titles of the data set."""
        from small_encoders import save_text_encoder

        return save_text_encoder(self.root / "words", ["red", "kite", *map(str, range(ITEMS))])

    @cached_property
    def unfinished_encoder(self) -> Path:
        """A folder with a text encoder and an interrupted tuning of it."""
        from recbole_mm.encoder_tuning import trainer

        folder = self.root / "tuning"
        shutil.copytree(self.text_encoder, folder / "words")
        seconds, trainer.SECONDS_BETWEEN_CHECKPOINTS = trainer.SECONDS_BETWEEN_CHECKPOINTS, 0
        on_step_end, trainer._Progress.on_step_end = trainer._Progress.on_step_end, _interrupt
        try:
            with contextlib.suppress(KeyboardInterrupt):
                _tune(self.dataset, folder)
        finally:
            trainer.SECONDS_BETWEEN_CHECKPOINTS = seconds
            trainer._Progress.on_step_end = on_step_end
        return folder


def _settings(root: Path, **more) -> dict:
    return {"dataset": "toy", "data_path": str(root), **MODEL, **more}


def _config(root: Path, model: str = "MMM4Rec", **more):
    from recbole_mm.config.load import load_config

    return load_config(model, config_dict=_settings(root, **more))


def _run(root: Path, saved: Path, **more):
    from recbole_mm.run.run import Run

    return Run(_config(root, checkpoint_dir=str(saved), **more))


def _copy_dataset(shelf: Shelf, folder: Path) -> Path:
    shutil.copytree(shelf.dataset / "toy", folder / "toy")
    return folder / "toy"


# data sets


def _make_inter(shelf, folder):
    return {_copy_dataset(shelf, folder) / "toy.inter": "table"}


def _make_item(shelf, folder):
    return {_copy_dataset(shelf, folder) / "toy.item": "table"}


def _make_npz(shelf, folder):
    return {_copy_dataset(shelf, folder) / "toy.text.npz": "npz"}


def _make_card(shelf, folder):
    return {_copy_dataset(shelf, folder) / "toy.card.json": "json"}


def _read_splits(folder):
    from recbole_mm.run.splits import load_splits

    return load_splits(_config(folder))


def _read_item_columns(folder):
    from recbole_mm.run.splits import load_splits

    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": None}
    more = {"load_col": {**columns, "item": ["item_id", "title", "price"]}}
    sasrec = {"dataset": "toy", "data_path": str(folder), **more}
    from recbole_mm.config.load import load_config

    return load_splits(load_config("SASRec", config_dict=sasrec))


def _inspect(folder):
    from recbole_mm.prepare.inspection import inspect
    from recbole_mm.prepare.prepared import PreparedDataset

    dataset = PreparedDataset(folder, "toy")
    inspect(dataset)
    return dataset.summary(), dataset.texts(), dataset.pictures()


def _extract(folder):
    from recbole_mm.prepare.extract import extract
    from recbole_mm.prepare.prepared import PreparedDataset

    extract([PreparedDataset(folder, "toy")])


def _read_features(folder):
    from recbole_mm.data import feature_files

    path = folder / "toy" / "toy.text.npz"
    tokens = ["[PAD]", *(f"i{n}" for n in range(ITEMS))]
    feature_files.read_feature_info(path)
    feature_files.read_feature_space(path)
    feature_files.read_feature_tokens(path)
    return feature_files.read_feature_rows(path, tokens)


def _make_mixture(shelf, folder):
    _copy_dataset(shelf, folder)
    (folder / "other").mkdir()
    for path in (folder / "toy").glob("toy.*"):
        shutil.copy(path, folder / "other" / path.name.replace("toy", "other", 1))
    (folder / "mix").mkdir()
    (folder / "mix" / "mix.yaml").write_text("domains: [toy, other]\nmodalities: [text]\n")
    inter = ["user_id:token\titem_id:token\ttimestamp:float"]
    inter += [
        f"{d}:u{u}\t{d}:i{i}\t{i}" for d in ("toy", "other") for u in (1, 2) for i in (3, 4, 5)
    ]
    (folder / "mix" / "mix.inter").write_text("\n".join(inter) + "\n")
    return {
        folder / "mix" / "mix.yaml": "yaml",
        folder / "mix" / "mix.inter": "table",
        folder / "other" / "other.text.npz": "npz",
    }


def _read_mixture(folder):
    from recbole_mm.run.splits import load_splits

    return load_splits(_config(folder, dataset="mix"))


# a user's own tables

EVENTS = [("user", "item", "rating", "timestamp")]
EVENTS += [(f"u{u}", f"i{(u + i) % 5}", 4.5, 1_400_000_000 + i) for u in range(6) for i in range(4)]
GOODS = [("item", "title", "brand", "price"), *((f"i{i}", f"toy {i}", "Acme", i) for i in range(5))]


def _write_table(path: Path, rows) -> Path:
    header, *rows = rows
    frame = pl.DataFrame(rows, schema=list(header), orient="row")
    ending = path.suffixes[0]
    if ending == ".xlsx":
        write_xlsx(path, [header, *rows])
    elif ending == ".parquet":
        frame.write_parquet(path)
    elif ending == ".jsonl":
        frame.write_ndjson(path)
    else:
        text = frame.write_csv(separator="\t" if ending == ".tsv" else ",")
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


FORM_OF = {
    ".csv": "table", ".tsv": "table", ".jsonl": "json", ".parquet": "parquet", ".xlsx": "bytes",
    ".gz": "bytes",
}  # fmt: skip


def _make_table(name: str, rows) -> Callable:
    def make(_, folder):
        if not name.startswith("interactions"):
            _write_table(folder / "interactions.csv", EVENTS)
        return {_write_table(folder / name, rows): FORM_OF[Path(name).suffix]}

    return make


def _prepare(*options: str) -> Callable:
    def read(folder):
        from recbole_mm.prepare.commands.prepare import read_arguments
        from recbole_mm.prepare.own_tables import prepare

        out = [f"--output={folder / 'out'}", "--name=Shop"]
        return prepare(read_arguments([str(folder), *out, "--no-features", *options])).summary()

    return read


PUBLIC = {
    "ninerec": {
        "Shop_pair.csv": "i1,u1,1650000000\ni2,u1,1650000001\ni1,u2,1650000002\n",
        "Shop_item.csv": 'i1,红火车,"A red, fast train"\ni2,蓝火车,A blue train\n',
    },
    "microlens": {
        "Shop_pairs.csv": "user,item,timestamp\n1,1,1583378629552\n1,2,1583378629553\n",
        "Shop_titles.csv": 'item,title\n1,"A red, fast train"\n2,"never closed\n',
    },
    "microlens-sequences": {
        "Shop_pairs.tsv": "1\t1 2 1\n2\t2\n",
        "Shop_title_en.csv": "1,A red train\n2,A blue train\n",
    },
    "pixelrec": {
        "pixelrec_interaction/Shop.csv": "item_id,user_id,timestamp\ni1,u1,1637000001\ni2,u1,1\n",
        "pixelrec_iteminfo/Shop.csv": 'item_id,title,tag,description\ni1,"A, b",red,\ni2,c,d,e\n',
    },
}
"""Files in the layouts of public data sets."""


def _make_public(name: str) -> Callable:
    def make(_, folder):
        for file, text in PUBLIC[name].items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
        return {folder / file: FORM_OF[Path(file).suffix] for file in PUBLIC[name]}

    return make


def _make_vectors(_, folder):
    _write_table(folder / "interactions.csv", EVENTS)
    arrays = {"item": np.array([f"i{i}" for i in range(5)])}
    for modality in ("text", "image"):
        arrays[modality] = np.eye(5, 3, dtype=np.float32)
        arrays[f"has_{modality}"] = np.ones(5, dtype=bool)
    np.savez(folder / "clip_vit_b32.npz", **arrays)
    return {folder / "clip_vit_b32.npz": "npz"}


def _read_vectors(folder):
    from recbole_mm.prepare.commands.prepare import read_arguments
    from recbole_mm.prepare.own_tables import prepare

    return prepare(read_arguments([str(folder), f"--output={folder / 'out'}", "--name=Shop"]))


def _make_ready_made(shelf, folder):
    _copy_dataset(shelf, folder)
    tokens = [f"i{n}" for n in range(ITEMS)]
    np.save(folder / "audio.npy", np.eye(ITEMS, 5))
    np.savez(folder / "audio.npz", item_id=tokens, feature=np.eye(ITEMS, 5))
    (folder / "items.txt").write_text("\n".join(tokens) + "\n")
    return {folder / "audio.npy": "npy", folder / "audio.npz": "npz", folder / "items.txt": "bytes"}


def _read_ready_made(folder):
    from recbole_mm.prepare.prepared import PreparedDataset
    from recbole_mm.prepare.ready_made import add_ready_made

    dataset = PreparedDataset(folder, "toy")
    add_ready_made(dataset, "audio", folder / "audio.npy", folder / "items.txt")
    add_ready_made(dataset, "audio", folder / "audio.npz")


# Amazon, and the folders of papers


def _make_reviews(_, folder):
    for layout, ending in ((2014, "csv"), (2018, "json.gz"), (2023, "csv.gz"), (2018, "json")):
        (folder / f"{layout}{ending}").mkdir()
        reviews_of(layout, ending, folder / f"{layout}{ending}")
    return {path: "table" if path.suffix == ".csv" else "bytes" for path in folder.glob("*/*")}


def _read_reviews(folder):
    from recbole_mm.prepare.amazon import Recipe, read_interactions

    for path in sorted(folder.glob("20*/reviews.*")):
        layout = int(path.parent.name[:4])
        recipe = Recipe("x", layout, folder / "out", folder, reviews=path, core=0)
        read_interactions(recipe, path)


def _make_meta(_, folder):
    for layout, text in META.items():
        (folder / f"meta_{layout}.json").write_text(text + "\n")
    (folder / "meta_2018.json.gz").write_bytes(gzip.compress(META[2018].encode()))
    return {
        p: "bytes" if p.name.endswith(("gz", "2014.json")) else "json" for p in folder.iterdir()
    }


def _read_meta(folder):
    from recbole_mm.prepare.amazon_files import read_meta

    for path in sorted(folder.glob("meta_*")):
        read_meta(path, {"B000000000"}, int(path.name[5:9]))


def _make_missrec(_, folder):
    made = missrec_folder(folder)
    forms = {".inter": "table", ".item2index": "table", ".user2index": "table", ".text": "table"}
    return {path: forms.get(path.suffix, "bytes") for path in made.iterdir()}


def _make_mmm4rec(_, folder):
    made = mmm4rec_folder(folder)
    return {path: {".jsonl": "json", ".pth": "torch"}[path.suffix] for path in made.iterdir()}


def _convert(layout: str) -> Callable:
    def read(folder):
        from recbole_mm.prepare.commands import convert

        convert.main([layout, str(folder / "Sci"), f"--output={folder / 'out'}"])

    return read


def _make_mirrors(_, folder):
    content = {
        "layouts": {2018: {"reviews": ["https://h/{category}.csv"], "categories": ["Pantry"]}},
        "names": {"Mine": {"category": "Pantry", "layout": 2018}},
        "sha256": {"a.csv": "0" * 64},
        "trusted_hosts": ["h:443"],
    }
    (folder / "mirrors.yaml").write_text(yaml.safe_dump(content))
    return {folder / "mirrors.yaml": "yaml"}


def _read_mirrors(folder):
    from recbole_mm.prepare.mirrors import Mirrors

    mirrors = Mirrors(folder / "mirrors.yaml")
    return mirrors.source_of_any_year("Mine"), mirrors.dataset_names(), mirrors.source("x", 2014)


def _make_mark(shelf, folder):
    _copy_dataset(shelf, folder)
    from recbole_mm.prepare.making import Making

    making = Making(folder, "toy", {"a": 1}, "recbole-mm amazon toy")
    with making:
        making.begin()
        making.tables_are_written()
    return {folder / ".toy.unfinished": "json"}


def _read_mark(folder):
    from recbole_mm.prepare.making import Making, command_to_resume

    command = command_to_resume(folder, "toy")
    assert command is None or isinstance(command, str)
    with Making(folder, "toy", {"a": 1}, "recbole-mm amazon toy") as making:
        assert isinstance(making.tables_written, bool)


def _make_chunks(shelf, folder):
    _copy_dataset(shelf, folder)
    chunks = folder / "toy" / ".toy.image.partial"
    from recbole_mm.prepare import extract

    keep, extract.discard_chunks = extract.discard_chunks, lambda *_: None
    try:
        _extract(folder)
    finally:
        extract.discard_chunks = keep
    return {path: path.suffix[1:] for path in chunks.iterdir()}


def _make_report(_, folder):
    failure = {"url": "http://127.0.0.1:9/a.jpg", "why": "HTTP 404", "is_final": True}
    write_json(folder / "report.json", {"a": failure})
    (folder / "b.jpg.part").write_bytes(b"abc")
    write_json(folder / "b.jpg.part.json", {"url": failure["url"], "tag": '"x"'})
    return {folder / "report.json": "json", folder / "b.jpg.part.json": "json"}


def _read_report(folder):
    from recbole_mm.prepare.download import Patience, Transfer
    from recbole_mm.prepare.pictures import fetch_pictures

    Transfer("http://127.0.0.1:9/a.jpg", folder / "b.jpg", None, Patience())._kept()
    return fetch_pictures({}, folder, None)


# pictures


def _make_pictures(_, folder):
    picture = Image.linear_gradient("L").resize((24, 18)).convert("RGB")  # icons begin at 16
    for ending in ("png", "jpg", "gif", "webp", "bmp", "tiff", "ico", "ppm", "tga"):
        picture.save(folder / f"picture.{ending}")
    Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000).save(folder / "deep.png")
    return dict.fromkeys(folder.iterdir(), "bytes")


def _read_pictures(folder):
    from recbole_mm.tools.pictures import read_picture

    for path in sorted(folder.iterdir()):
        assert read_picture(path).mode == "RGB"


# configuration


def _make_properties(shelf, folder):
    content = {
        **_settings(shelf.dataset), "model": "MMM4Rec", "topk": [5, 10], "metrics": ["NDCG", "Hit"],
        "valid_metric": "NDCG@10", "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "learning_rate": 1e-3, "modalities": ["text", "image"], "freeze": [], "seed": 3,
        "user_inter_num_interval": "[5,inf)", "alias_of_item_id": ["item_id_list"],
    }  # fmt: skip
    (folder / "mine.yaml").write_text(yaml.safe_dump(content))
    return {folder / "mine.yaml": "yaml"}


def _read_properties(folder):
    from recbole_mm.config.load import load_config

    return load_config("MMM4Rec", "toy", config_files=[folder / "mine.yaml"])


def _make_dataset_properties(shelf, folder):
    _copy_dataset(shelf, folder)
    content = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "modalities": ["text"]}
    (folder / "toy" / "toy.yaml").write_text(yaml.safe_dump({**content, "topk": [5, 10]}))
    return {folder / "toy" / "toy.yaml": "yaml"}


def _read_dataset_properties(folder):
    from recbole_mm.config.data_settings import data_settings

    settings = data_settings("MMM4Rec", "toy", (), {"data_path": str(folder)})
    return settings, _read_splits(folder)


def _make_stages(shelf, folder):
    stages = [
        {**PRETRAIN, "dataset": "toy"},
        {"train_stage": "finetune", "dataset": "toy", "freeze": ["adapters.*"]},
    ]
    content = {**MODEL, "model": "MMM4Rec", "data_path": str(shelf.dataset), "stages": stages}
    (folder / "stages.yaml").write_text(yaml.safe_dump(content))
    return {folder / "stages.yaml": "yaml"}


def _read_stages(folder):
    from recbole_mm.config.data_settings import data_settings
    from recbole_mm.run.stages import plan_stages

    files = [str(folder / "stages.yaml")]
    return data_settings(None, None, files, {}), plan_stages(config_files=files)


def _make_space(_, folder):
    (folder / "mine.hyper").write_text(
        "learning_rate choice [0.001,0.01]\nhidden_dropout_prob uniform 0.1,0.5\n"
        "weight_decay loguniform -8,0\nhidden_size quniform 8,64,8\n"
    )
    return {folder / "mine.hyper": "bytes"}


def _read_space(folder):
    from recbole_mm.tuning.search_space import read_search_space

    return read_search_space(folder / "mine.hyper", {"model": "SASRec"})


def _read_entry(folder):
    from recbole_mm.compare.entries import config_of, parse_entries

    (entry,) = parse_entries(f"MMM4Rec@{folder / 'mine.yaml'}")
    return config_of(entry, "toy", {}, {})


# checkpoints and bundles


def _make_checkpoint(shelf, folder):
    return {Path(shutil.copy(shelf.checkpoint, folder / "model.pth")): "torch"}


def _recommend_checkpoint(folder):
    from recbole_mm.recommend.recommender import Recommender

    recommender = Recommender.from_pretrained(folder / "model.pth")
    return recommender.recommend(k=3)


def _read_pretrained(folder):
    from recbole_mm.transfer.pretrained import read_pretrained

    return read_pretrained(folder / "model.pth", "MMM4Rec")


def _start_from(folder):
    root = folder / "data"
    return _run(root, folder / "saved", pre_model_path=str(folder / "model.pth"))


def _make_start(shelf, folder):
    _copy_dataset(shelf, folder / "data")
    return _make_checkpoint(shelf, folder)


def _through_recbole(folder):
    from recbole.quick_start import load_data_and_model

    return load_data_and_model(str(folder / "model.pth"))


AUTHORS = {
    "mmm4rec": {
        "model": {
            "encoder_ssd_layers.0.ssd.D": torch.ones(2),
            "text_adapter.0.weight": torch.ones(3, 2),
            "encoder_ssd_layers.0.ssd.conv1d_1.weight": torch.ones(2, 1, 4),
        },
        "epoch": 3,
    },
    "missrec": {
        "state_dict": {
            "trm_model.encoder.layers.0.linear1.weight": torch.ones(2, 2),
            "LayerNorm.weight": torch.ones(2),
            "plm_interest_lookup_table": torch.zeros(4, dtype=torch.long),
            "img_interest_lookup_table": torch.zeros(4, dtype=torch.long),
        },
        "config": {"a": [1, "b"]},
    },
}


def _make_authors(_, folder):
    for name, content in AUTHORS.items():
        torch.save(content, folder / f"{name}.pth")
    return dict.fromkeys(folder.iterdir(), "torch")


def _read_authors(folder):
    from recbole_mm.transfer.authors import import_authors_checkpoint

    for path in sorted(folder.iterdir()):
        import_authors_checkpoint(path, "MMM4Rec" if path.name.startswith("mmm") else "MISSRec")


def _make_bundle(*names: str) -> Callable:
    def make(shelf, folder):
        shutil.copytree(shelf.bundle, folder / "bundle")
        return {folder / "bundle" / name: "json" if "json" in name else "bytes" for name in names}

    return make


HISTORIES = {"user": ["a", "b"], "items": [["i1", "i2"], ["i7"]]}


def _recommend_bundle(folder):
    from recbole_mm.recommend.recommender import Recommender

    bundle = folder / "bundle"
    _refit_manifest(bundle)
    recommender = Recommender.from_pretrained(bundle)
    recommender.save_pretrained(folder / "again")
    return recommender.recommend(HISTORIES, k=3)


def _refit_manifest(bundle: Path) -> None:
    """A damage that the hashes show is found at once; this one they do not show."""
    try:
        manifest = json.loads((bundle / "manifest.json").read_text())
        for name in manifest["files"]:
            path = bundle / name
            manifest["files"][name] = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError):
        return
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def _read_bundle_as_start(folder):
    from recbole_mm.transfer.pretrained import read_pretrained

    _refit_manifest(folder / "bundle")
    return read_pretrained(folder / "bundle", "MMM4Rec")


# records of ours


def _make_result(shelf, folder):
    stage = _stage(shelf.dataset, folder)
    best = stage.path(".pth")
    best.parent.mkdir(parents=True, exist_ok=True)
    best.touch()
    write_record(stage.path(".json"), {"result": _result(str(best)), "config": {}})
    (folder / "root").write_text(str(shelf.dataset))
    return {stage.path(".json"): "json"}


def _stage(root, folder):
    from recbole_mm.run.stages import Stage

    return Stage(_config(root, checkpoint_dir=str(folder / "saved")))


def _result(checkpoint: str | None) -> dict:
    from recbole_mm.run.result import Result

    return Result(
        model="MMM4Rec", dataset="toy", train_stage=None, use_item_id=True, pre_model_path=None,
        knows_query_time=False, valid_metric="ndcg@10", valid_score_bigger=True,
        best_valid_score=0.5, best_valid_result={"ndcg@10": 0.5}, test_result={"ndcg@10": 0.4},
        best_epoch=1, epochs=2, history=[{"epoch": 0, "valid_score": 0.5, "seconds": 1.0}],
        seconds=1.5, seconds_per_epoch=0.5, seconds_per_validation=0.1, n_parameters=10,
        peak_memory=1000, peak_gpu_memory=0, checkpoint=checkpoint,
    ).to_dict()  # fmt: skip


def _read_stage_record(folder):
    from recbole_mm.run.result_tables import print_results

    result = _stage(Path((folder / "root").read_text()), folder).result()
    if result is not None:
        print_results([result])
    return result


def _make_stored_result(_, folder):
    write_record(folder / "result.json", _result(None))
    return {folder / "result.json": "json"}


def _read_stored_result(folder):
    from recbole_mm.run.result import Result
    from recbole_mm.run.result_tables import print_results

    print_results([Result.load(folder / "result.json")])


def _make_progress(shelf, folder):
    _copy_dataset(shelf, folder / "data")
    return {Path(shutil.copy(shelf.progress, folder / "latest.pth")): "torch"}


def _resume_progress(folder):
    run = _run(folder / "data", folder / "saved", ema_epochs=1.0)
    run.keep_progress(folder / "best.pth", folder / "latest.pth")
    return run.trainer.start_epoch


def _make_trials(shelf, folder):
    _copy_dataset(shelf, folder / "data")
    from recbole_mm.tuning.objective import Outcome

    trials = _trials(folder)
    for number, score in enumerate((0.1, 0.3, None)):
        trial = trials.start({"learning_rate": 0.01 * (number + 1)})
        trials.judge(trial, 0, 0.1)
        state = "failed" if score is None else "complete"
        trials.finish(trial, Outcome(state, score, 2, 1.5, "x" if score is None else None))
    return {folder / "journal.log": "json"}


def _trials(folder):
    from recbole_mm.tuning.settings import SearchSettings
    from recbole_mm.tuning.trials import Trials

    space = {"choice": {"learning_rate": [0.01, 0.02, 0.03]}}
    return Trials(folder / "journal.log", "hash", space, SearchSettings(), True, log=lambda _: None)


def _read_trials(folder):
    from recbole_mm.config.load import load_config
    from recbole_mm.tuning.objective import Objective
    from recbole_mm.tuning.search import _write_best

    trials = _trials(folder)
    if any(trial.value is not None for trial in trials.ended):
        fixed = {"model": "MMM4Rec", **_settings(folder / "data")}
        config = load_config(config_dict=fixed)
        _write_best(folder / "best.yaml", trials, Objective(fixed, []), config, "random")


def _make_stored_run(shelf, folder):
    from recbole_mm.reporting.ranks import evaluate_ranks, write_table

    run = _run(shelf.dataset, folder / "saved")
    run.train(saved=False)
    ranks = evaluate_ranks(run, False).ranks.with_columns(
        label=pl.lit("MMM4Rec"), model=pl.lit("MMM4Rec"), seed=pl.lit(1), features=pl.lit("all"),
        seen=pl.lit("kept"),
    )  # fmt: skip
    write_table(ranks, folder / "ranks.parquet")
    write_record(folder / "run.json", {"label": "MMM4Rec", "config": {"gpu_id": ""}})
    record = {**_result(None), "environment": {"Python": "3"}, "n_items": ITEMS, "metrics": {}}
    record["ranks.parquet"] = sha256_of_file(folder / "ranks.parquet")
    write_record(folder / "result.json", record)
    return {
        folder / "ranks.parquet": "parquet",
        folder / "run.json": "json",
        folder / "result.json": "json",
    }


def _read_stored_run(folder):
    from recbole_mm.compare.runs import EntryRun

    run = EntryRun("MMM4Rec", 1, folder)
    run.set_aside_if_damaged()
    return (run.plan(), run.result(), run.ranks().collect()) if run.finished else None


# encoders


def _make_encoder_settings(_, folder):
    library, model = "sentence_transformers.models", folder / "encoder"
    settings = {
        "modules.json": [
            {"name": "0", "path": "", "type": f"{library}.Transformer"},
            {"name": "1", "path": "1_Pooling", "type": f"{library}.Pooling"},
        ],
        "config_sentence_transformers.json": {
            "prompts": {"query": "red ", "passage": "toy "},
            "default_prompt_name": "query",
        },
        "sentence_bert_config.json": {
            "max_seq_length": 8,
            "model_args": {"attn_implementation": "eager"},
        },
        "1_Pooling/config.json": {"word_embedding_dimension": 8, "pooling_mode_cls_token": True},
    }
    (model / "1_Pooling").mkdir(parents=True)
    for name, value in settings.items():
        write_json(model / name, value)
    return {model / name: "json" for name in settings}


def _read_encoder_settings(folder):
    from recbole_mm.prepare.encoder_files import open_files
    from recbole_mm.prepare.sentence_settings import read_sentence_settings

    found = read_sentence_settings(open_files(str(folder / "encoder")))
    return found and found.prompt_for_items()


def _make_encoder(shelf, folder):
    shutil.copytree(shelf.text_encoder, folder / "encoder")
    from recbole_mm.prepare.tuned_encoders import RECORD, write_tuning
    from recbole_mm.run.splits import load_dataset

    split = load_dataset(_config(shelf.dataset)).build()[0].split_record()
    write_tuning(folder / "encoder", {"split": split})
    forms = {".json": "json", ".txt": "bytes", ".safetensors": "bytes"}
    names = [RECORD, "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
    files = [folder / "encoder" / name for name in names]
    return {file: forms[file.suffix] for file in files}


def _encode_text(folder):
    from recbole_mm.prepare.open_encoder import open_encoder

    encoder = open_encoder(str(folder / "encoder"), device="cpu")
    encoder.require("text")
    return encoder.texts(["red kite 1", "kite"]), encoder.tuning


def _make_picture_encoder(_, folder):
    from small_encoders import save_picture_encoder

    model = save_picture_encoder(folder / "encoder")
    return {model / "preprocessor_config.json": "json", model / "config.json": "json"}


def _encode_pictures(folder):
    from recbole_mm.prepare.open_encoder import open_encoder

    encoder = open_encoder(str(folder / "encoder"), device="cpu")
    encoder.require("image")
    return encoder.images([Image.new("RGB", (9, 5), "red"), Image.new("RGB", (20, 30))])


def _interrupt(_, args, state, control, **kwargs):  # noqa: ARG001 the signature of a callback
    if state.global_step == 2:
        raise KeyboardInterrupt


def _tune(root: Path, folder: Path) -> Path:
    from recbole_mm.encoder_tuning.settings import EncoderTuningSettings
    from recbole_mm.encoder_tuning.tune import tune_encoder

    config = _config(root, "SASRec", modalities=[])
    settings = EncoderTuningSettings(["title"], max_pairs=24, batch_size=8)
    tune_encoder(config, str(folder / "words"), folder / "tuned", settings, "cpu")
    return folder / "tuned"


def _make_tuning(shelf, folder):
    shutil.copytree(shelf.dataset, folder / "data")
    (folder / "words").symlink_to(shelf.text_encoder)
    shutil.copytree(shelf.unfinished_encoder / ".tuned.partial", folder / ".tuned.partial")
    partial = folder / ".tuned.partial"
    forms = {".json": "json", ".safetensors": "bytes", ".pt": "torch", ".pth": "torch"}
    files = [path for path in partial.rglob("*") if path.suffix in forms]
    return {path: forms[path.suffix] for path in files}


def _resume_tuning(folder):
    _tune(folder / "data", folder)
    assert not (folder / ".tuned.partial").exists()


# histories, ids and new items of a recommendation


def _make_histories(_, folder):
    rows = [("user", "item", "timestamp"), *(row[:2] + row[3:] for row in EVENTS[1:])]
    for ending in (".csv", ".jsonl", ".parquet", ".tsv", ".xlsx", ".csv.gz"):
        (folder / ending).mkdir()
        _write_table(folder / ending / f"today{ending}", rows)
    (folder / "lists").mkdir()
    (folder / "lists" / "today.csv").write_text('user,items\na,i1 i2\nb,"[""i3"", ""i4""]"\n')
    pl.DataFrame(HISTORIES).write_ndjson(folder / "lists" / "today.jsonl")
    pl.DataFrame(HISTORIES).write_parquet(folder / "lists" / "today.parquet")
    return {path: FORM_OF[path.suffix] for path in folder.glob("*/*")}


def _read_histories(folder):
    from recbole_mm.recommend.histories import read_histories

    tokens = pl.Series(["[PAD]", *(f"i{n}" for n in range(ITEMS))])
    for path in sorted(folder.glob("*/*")):
        histories = read_histories(path, tokens)
        histories.count_unknown(), histories.last_time()
        histories.part(0, histories.n_users)


def _make_ids(_, folder):
    (folder / "ids.txt").write_text("i1\ni2\n")
    (folder / "ids.csv").write_text("item,x\ni1,1\ni2,2\n")
    return {folder / "ids.txt": "bytes", folder / "ids.csv": "table"}


def _read_ids(folder):
    from recbole_mm.recommend.tables import read_ids

    return read_ids(folder / "ids.txt", "item"), read_ids(folder / "ids.csv", "item")


def _make_new_items(shelf, folder):
    shutil.copytree(shelf.bundle, folder / "bundle")
    rows = [
        {"item": f"n{n}", "text": [0.1, 0.2, 0.3, 0.4], "image": [0.1, 0.2, 0.3]} for n in (1, 2)
    ]
    pl.DataFrame(rows).write_parquet(folder / "new.parquet")
    pl.DataFrame(rows).write_ndjson(folder / "new.jsonl")
    for modality, width in (("text", 4), ("image", 3)):
        write_item_features(folder / f"new.{modality}.npz", ["n3"], np.ones((1, width)))
    forms = {".parquet": "parquet", ".jsonl": "json", ".npz": "npz"}
    return {path: forms[path.suffix] for path in folder.iterdir() if path.is_file()}


def _read_new_items(folder):
    from recbole_mm.recommend.recommender import Recommender

    for table in ("new.parquet", "new.jsonl", None):
        recommender = Recommender.from_pretrained(folder / "bundle")
        vectors = {name: folder / f"new.{name}.npz" for name in ("text", "image")}
        if table:
            recommender.add_items(folder / table)
        else:
            recommender.add_items(vectors=vectors)


def _make_partial(shelf, folder):
    from recbole_mm.recommend import output

    shutil.copytree(shelf.bundle, folder / "bundle")
    pl.DataFrame(HISTORIES).write_ndjson(folder / "today.jsonl")
    _write_recommendations(folder)
    (folder / "top.csv").rename(folder / "expected.csv")
    finish, output.PartialOutput.finish = output.PartialOutput.finish, lambda *_: None
    try:
        _write_recommendations(folder)
    finally:
        output.PartialOutput.finish = finish
    forms = {".json": "json", ".parquet": "parquet"}
    partial = (folder / ".top.csv.partial").iterdir()
    return {path: forms[path.suffix] for path in partial if path.suffix in forms}


def _resume_recommendations(folder):
    _write_recommendations(folder)
    assert (folder / "top.csv").read_text() == (folder / "expected.csv").read_text()


def _write_recommendations(folder):
    from recbole_mm.recommend.recommender import Recommender

    recommender = Recommender.from_pretrained(folder / "bundle")
    (folder / "top.csv").unlink(missing_ok=True)
    recommender.write(folder / "top.csv", folder / "today.jsonl", k=3, show_progress=False)


READERS = {
    reader.name: reader
    for reader in (
        Reader("inter", _make_inter, _read_splits, 3),
        Reader("inter-inspect", _make_inter, _inspect),
        Reader("item", _make_item, _read_item_columns, 3),
        Reader("item-extract", _make_item, _extract),
        Reader("features", _make_npz, _read_features, 10),
        Reader("features-inspect", _make_npz, _inspect),
        Reader("card", _make_card, _inspect),
        Reader("mixture", _make_mixture, _read_mixture, 2),
        *(
            Reader(
                f"interactions{ending}", _make_table(f"interactions{ending}", EVENTS), _prepare(), 3
            )
            for ending in (".csv", ".tsv", ".jsonl", ".parquet", ".xlsx", ".csv.gz")
        ),
        *(
            Reader(
                f"items{ending}", _make_table(f"items{ending}", GOODS), _prepare("--keep=price"), 3
            )
            for ending in (".csv", ".jsonl", ".parquet", ".xlsx")
        ),
        *(
            Reader(name, _make_public(name), _prepare(f"--layout={name.partition('-')[0]}"), 3)
            for name in PUBLIC
        ),
        Reader("vectors", _make_vectors, _read_vectors, 3),
        Reader("ready-made", _make_ready_made, _read_ready_made, 3),
        Reader("amazon-reviews", _make_reviews, _read_reviews),
        Reader("amazon-meta", _make_meta, _read_meta, 5),
        Reader("convert-missrec", _make_missrec, _convert("missrec"), 3),
        Reader("convert-mmm4rec", _make_mmm4rec, _convert("mmm4rec"), 3),
        Reader("mirrors", _make_mirrors, _read_mirrors, 3),
        Reader("unfinished-mark", _make_mark, _read_mark, 3),
        Reader("chunks", _make_chunks, _extract),
        Reader("download-notes", _make_report, _read_report, 3),
        Reader("pictures", _make_pictures, _read_pictures, 5),
        Reader("properties", _make_properties, _read_properties, 3),
        Reader("properties-compare", _make_properties, _read_entry, 2),
        Reader("properties-dataset", _make_dataset_properties, _read_dataset_properties, 2),
        Reader("stages", _make_stages, _read_stages, 2),
        Reader("search-space", _make_space, _read_space, 5),
        Reader("checkpoint", _make_checkpoint, _recommend_checkpoint),
        Reader("checkpoint-pretrained", _make_checkpoint, _read_pretrained, 5),
        Reader("checkpoint-start", _make_start, _start_from),
        Reader("checkpoint-recbole", _make_checkpoint, _through_recbole),
        Reader("authors", _make_authors, _read_authors, 5),
        Reader("bundle-config", _make_bundle("config.json", "manifest.json"), _recommend_bundle, 2),
        Reader(
            "bundle-items",
            _make_bundle("items.json", "items.safetensors", "model.safetensors"),
            _recommend_bundle,
            2,
        ),
        Reader(
            "bundle-start",
            _make_bundle("config.json", "model.safetensors"),
            _read_bundle_as_start,
            5,
        ),
        Reader("stage-record", _make_result, _read_stage_record, 3),
        Reader("result", _make_stored_result, _read_stored_result, 5),
        Reader("progress", _make_progress, _resume_progress),
        Reader("trials", _make_trials, _read_trials),
        Reader("stored-run", _make_stored_run, _read_stored_run, 5),
        Reader("encoder-settings", _make_encoder_settings, _read_encoder_settings, 5),
        *(
            [
                Reader("encoder", _make_encoder, _encode_text),
                Reader("encoder-pictures", _make_picture_encoder, _encode_pictures),
                Reader("encoder-tuning", _make_tuning, _resume_tuning),
            ]
            if can_tune_encoders()
            else []
        ),
        Reader("histories", _make_histories, _read_histories),
        Reader("ids", _make_ids, _read_ids, 5),
        Reader("new-items", _make_new_items, _read_new_items),
        Reader("partial-output", _make_partial, _resume_recommendations),
    )
}
