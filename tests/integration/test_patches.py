import os
import types
import warnings
from collections import Counter

import numpy as np
import pytest
import recbole.trainer.trainer
import recbole.utils.logger
import scipy.sparse
import torch
from as_if_in import as_if_in
from recbole.config import Config
from recbole.data import create_dataset
from recbole.evaluator import Collector
from recbole.sampler import RepeatableSampler
from recbole.trainer import HyperTuning

from recbole_mm.config.load import load_config
from recbole_mm.integration import patch_list
from recbole_mm.integration import patches as compat


def test_numpy_has_the_names_that_recbole_reads():
    assert np.float_ is np.float64
    assert np.complex_ is np.complex128
    assert np.unicode_ is np.str_
    assert np.bool8 is np.bool_


def test_an_alias_that_numpy_still_has_is_left_alone(monkeypatch):
    own = object()
    monkeypatch.setattr(np, "float_", own)

    compat.restore_numpy_aliases()

    assert np.float_ is own


def test_patching_twice_changes_nothing():
    before = (torch.load, Collector.get_data_struct)

    patch_list.patch_before_import()
    patch_list.patch_after_import()

    assert (torch.load, Collector.get_data_struct) == before


@pytest.mark.parametrize("category", [FutureWarning, DeprecationWarning])
def test_warnings_at_recboles_lines_are_silent_and_others_are_not(category):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        compat.silence_warnings_without_a_remedy()
        for module in ("recbole.trainer.trainer", "recbole_mm.training.trainer", "users.script"):
            warnings.warn_explicit("old", category, "file.py", 1, module=module)

    assert len(heard) == 2


def test_the_scaler_that_recboles_trainer_makes_warns_nobody():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        compat.silence_warnings_without_a_remedy()
        as_if_in("recbole.x", lambda: torch.cuda.amp.GradScaler(enabled=False))()

    assert heard == []


def test_the_collector_keeps_counts_beside_tensors():
    config = load_config(
        "SASRec", "demo", overrides={"metrics": ["ItemCoverage"], "valid_metric": "ItemCoverage@5"}
    )
    collector = Collector(config)
    counts = Counter({1: 2})
    collector.data_struct.set("data.num_items", 7)
    collector.data_struct.set("data.count_items", counts)
    collector.data_struct.set("rec.items", torch.tensor([[1, 2]]))

    for _ in range(2):  # validation, then test: counts stay, recommendations are handed over
        struct = collector.get_data_struct()
        assert struct["data.num_items"] == 7
        assert struct["data.count_items"] == counts
        assert "data.num_items" in collector.data_struct
        assert "rec.items" not in collector.data_struct
    assert "rec.items" not in struct


@pytest.mark.parametrize("module", [recbole.trainer.trainer, recbole.utils.logger])
def test_a_folder_that_another_process_made_meanwhile_is_no_error(module, tmp_path, monkeypatch):
    folder = tmp_path / "saved"
    folder.mkdir()
    monkeypatch.setattr(os.path, "exists", lambda _: False)  # as it was a moment ago

    module.ensure_dir(str(folder))
    with pytest.raises(FileExistsError):
        module.ensure_dir(__file__)


def test_importing_recbole_does_not_leave_anomaly_detection_on():
    import recbole.model.sequential_recommender.sine  # noqa: F401  (switches it on)

    torch.autograd.set_detect_anomaly(True)
    compat.switch_off_anomaly_detection()
    assert not torch.is_anomaly_enabled()


def test_graph_models_of_recbole_fill_their_sparse_matrix():
    matrix = scipy.sparse.dok_matrix((2, 3), dtype=np.float32)

    matrix._update({(0, 1): 2.0, (1, 2): 3.0})

    assert matrix.toarray().tolist() == [[0, 2, 0], [0, 0, 3]]


def test_a_sampler_that_excludes_nothing_has_one_empty_set_for_all_users():
    data = types.SimpleNamespace(iid_field="item_id", user_num=4, item_num=9)

    sampler = RepeatableSampler(["train"], data)

    assert sampler.used_ids.tolist() == [set()] * 4
    assert len({id(used) for used in sampler.used_ids}) == 1
    drawn = sampler.sample_by_user_ids(np.array([1, 2]), np.array([3, 4]), 50).tolist()
    assert 3 not in drawn[::2] and 4 not in drawn[1::2]
    assert sampler.used_ids.tolist() == [{3}, {4}], "those of a batch are made for it"


def test_the_grid_of_recbole_is_searched_to_its_end_with_any_hyperopt():
    pytest.importorskip("hyperopt", reason="tuning needs recbole_mm[tune]")
    tried = []

    def objective(params, _files):
        tried.append((params["a"], params["b"]))
        return {
            "model": "SASRec",
            "best_valid_score": params["a"],
            "valid_score_bigger": True,
            "best_valid_result": {},
            "test_result": {},
        }

    space = {"choice": {"a": [1, 2], "b": ["x", "y", "z"]}}
    search = HyperTuning(objective, params_dict=space, algo="exhaustive")
    search.run()

    assert sorted(tried) == [(a, b) for a in (1, 2) for b in ("x", "y", "z")]
    assert search.best_params == {"a": 2, "b": tried[[a for a, _ in tried].index(2)][1]}


def test_recbole_plots_a_search(monkeypatch):
    offline = pytest.importorskip("plotly.offline", reason="RecBole's plots need plotly")
    pytest.importorskip("hyperopt", reason="tuning needs recbole_mm[tune]")
    shown = []
    monkeypatch.setattr(offline, "plot", lambda figure, filename: shown.append((figure, filename)))
    search = HyperTuning(print, params_dict={"choice": {"a": [1]}}, display_file="search.html")
    search.model, search.score_list, search.params_list = "SASRec", [0.5], ["a:1"]

    search.plot_hyper()

    ((figure, filename),) = shown
    assert filename == "search.html"
    assert list(figure.data[0].x) == ["1"]
    assert list(figure.data[0].y) == [0.5]


def test_missing_values_of_a_data_set_are_filled_with_every_pandas(tmp_path):
    folder = tmp_path / "holes"
    folder.mkdir()
    rows = [f"u{user}\ti{item}\t{item}" for user in (1, 2, 3) for item in (1, 2, 3, 4)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (folder / "holes.inter").write_text("\n".join([header, *rows]) + "\n")
    (folder / "holes.item").write_text(
        "item_id:token\tbrand:token\tprice:float\tgenres:token_seq\tsizes:float_seq\n"
        "i1\ta\t1.0\tx y\t1 2\n"
        "i2\t\t\t\t\n"
        "i3\tb\t4.0\ty\t3\n"
        "i4\tb\t4.0\tx\t1\n"
    )
    columns = ["item_id", "brand", "price", "genres", "sizes"]
    settings = {
        "data_path": str(tmp_path),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": columns},
        "train_neg_sample_args": None,
    }

    items = create_dataset(Config("SASRec", "holes", config_dict=settings)).get_item_feature()

    empty = 2  # the row of i2, after that of padding
    assert items["brand"].tolist() == [0, 1, 0, 2, 2]
    assert items["price"].tolist() == [3, 1, 3, 4, 4]
    assert items["genres"][empty].tolist() == []
    assert items["sizes"][empty].tolist() == []
    assert items["genres"][1].tolist() == [1, 2]
