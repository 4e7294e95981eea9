"""Models that train nothing, beside RecBole's for users and a definition."""

from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.model.general_recommender.itemknn import ComputeSimilarity
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_model, get_trainer
from scipy.sparse import csr_matrix
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.config.models import BASELINES
from recbole_mm.model.layers.feature_transform import fit_transform
from recbole_mm.model.sequential_recommender.historyknn import nearest_neighbors
from recbole_mm.run.run import Run, fit_and_evaluate
from recbole_mm.tools.errors import UserError
from recbole_mm.training.training_free import TrainingFreeTrainer

ON_IDS = {"TransitionGraph": {"feature_share": 0.0}}
"""What a baseline needs on data without features."""


def write(folder, rows):
    path = folder / "dataset" / "tried" / "tried.inter"
    path.parent.mkdir(parents=True)
    lines = ["\t".join(map(str, row)) for row in rows]
    path.write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]) + "\n")
    return {"dataset": "tried", "data_path": str(path.parents[1])}


@pytest.fixture
def tried(tmp_path):
    random = np.random.default_rng(0)
    users = [(f"u{user}", int(random.integers(4, 9))) for user in range(40)]
    rows = [(user, f"i{random.zipf(1.5) % 25}", step) for user, n in users for step in range(n)]
    return write(tmp_path, rows)


def test_popularity_counts_the_events_of_training(tmp_path):
    walks = {"u": "aabcd", "v": "abacd", "w": "cad"}
    settings = write(
        tmp_path, [(u, i, k) for u, items in walks.items() for k, i in enumerate(items)]
    )
    run = Run(load_config("Popularity", config_dict=settings))
    tokens = run.splits.train._dataset.field2id_token["item_id"]

    # left out are the last two events of u and v and, as a target stays in training, the last of w
    assert dict(zip(tokens, run.model.counts.tolist(), strict=True)) == {
        "[PAD]": 0, "a": 5, "b": 2, "c": 1, "d": 0,
    }  # fmt: skip


@pytest.mark.parametrize("k", [1, 3, 100])
@pytest.mark.parametrize("shrink", [0, 10])
def test_neighbors_are_those_of_recboles_item_knn(k, shrink):
    random = np.random.default_rng(1)
    counts = random.poisson(0.3, size=(50, 20)) * random.random((50, 20))  # no two are equal
    _, expected = ComputeSimilarity(csr_matrix(counts), topk=k, shrink=shrink).compute_similarity()

    found = nearest_neighbors(csr_matrix(counts), k, shrink)

    np.testing.assert_allclose(found.T.toarray(), expected.toarray(), atol=1e-6)


def test_neighbors_do_not_depend_on_the_size_of_blocks_and_of_equal_ones_the_first_count(
    monkeypatch,
):
    events = csr_matrix(np.ones((3, 5)))
    whole = nearest_neighbors(events, 2, 0.0).toarray()
    monkeypatch.setattr("recbole_mm.model.sequential_recommender.historyknn.ITEMS_PER_BLOCK", 2)

    assert np.array_equal(nearest_neighbors(events, 2, 0.0).toarray(), whole)
    assert [row.nonzero()[0].tolist() for row in whole] == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]


def test_history_knn_adds_the_similarities_of_the_history(tried):
    run = Run(load_config("HistoryKNN", config_dict={**tried, "k": 4, "shrink": 2.0}))
    train = run.splits.train._dataset
    nearest = nearest_neighbors(train.inter_matrix(form="csr"), 4, 2.0).toarray()

    for batch, *_ in run.splits.test:
        scores = run.model.full_sort_predict(batch)
        for row, items in enumerate(batch["item_id_list"].tolist()):
            expected = nearest[:, [item for item in items if item]].sum(axis=1)
            assert_close(scores[row].double(), torch.from_numpy(expected), atol=1e-5, rtol=0)
        assert_close(run.model.predict(batch), scores.gather(1, batch["item_id"][:, None])[:, 0])


def test_what_was_had_together_with_the_history_comes_first(tmp_path):
    complete = [(f"u{u}", f"{part}{u % 6}", k) for u in range(30) for k, part in enumerate("abcz")]
    waiting = [(f"v{v}", f"{part}{v}", k) for v in range(6) for k, part in enumerate("abc")]
    settings = {**write(tmp_path, complete + waiting), "eval_args": {"split": {"LS": "test_only"}}}
    run = Run(load_config("HistoryKNN", config_dict=settings))
    data = run.splits.test._dataset
    users, items = data.field2id_token["user_id"], data.field2id_token["item_id"]

    batch = data[torch.arange(len(data))]
    first = run.model.full_sort_predict(batch).argmax(dim=1)

    found = {users[u]: items[i] for u, i in zip(batch["user_id"], first, strict=True)}
    assert {v: found[v] for v in (f"v{v}" for v in range(6))} == {
        f"v{v}": f"c{v}" for v in range(6)
    }


@pytest.mark.parametrize("model", BASELINES)
def test_a_baseline_is_not_trained_and_its_checkpoint_ranks_the_same(model, tried):
    result = fit_and_evaluate(
        load_config(model, config_dict={**tried, **ON_IDS.get(model, {}), "epochs": 7})
    )

    assert (result.epochs, result.n_parameters, result.history) == (0, 0, [])
    assert 0 < result.best_valid_result["hit@10"] <= 1
    config, again, _, _, _, test = load_data_and_model(result.checkpoint)
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, again)
    assert type(trainer) is TrainingFreeTrainer
    assert trainer.evaluate(test, load_best_model=False) == result.test_result


@pytest.mark.parametrize("model", BASELINES)
def test_recboles_own_functions_run_a_baseline(model, tried):
    settings = {**tried, **ON_IDS.get(model, {}), "show_progress": False}

    result = run_recbole(model, config_dict=settings)

    assert 0 < result["test_result"]["hit@10"] <= 1
    assert list(Path("saved").glob(f"{model}-*.pth"))


@pytest.mark.parametrize(("theirs", "ours"), [("Pop", "Popularity"), ("ItemKNN", "HistoryKNN")])
def test_recboles_name_of_a_baseline_means_ours_in_our_commands_and_theirs_in_recboles(
    theirs, ours
):
    assert load_config(theirs, "demo")["model"] == ours
    assert Config(theirs, "demo")["model"] == theirs
    assert get_model(ours).__module__.startswith("recbole_mm.")


def test_a_transition_graph_counts_what_came_next_in_training(tmp_path):
    walks = {"u": "abcxy", "v": "abdxy", "w": "bcxy"}  # the last two of each are held out
    settings = write(
        tmp_path, [(u, i, k) for u, items in walks.items() for k, i in enumerate(items)]
    )
    options = {"feature_share": 0.0, "window": 2, "decay": 0.5, "last_events": 1}
    run = Run(load_config("TransitionGraph", config_dict={**settings, **options}))
    tokens = run.splits.train._dataset.field2id_token["item_id"].tolist()

    graph = run.model.graph
    before = torch.repeat_interleave(torch.arange(len(tokens)), graph.start.diff())
    entries = zip(before.tolist(), graph.column.tolist(), graph.value.tolist(), strict=True)
    found = {(tokens[i], tokens[j]): v for i, j, v in entries}

    # a was followed by b twice, and two steps later by c and by d once each
    assert found == pytest.approx(
        {
            ("a", "b"): 2 / 3,
            ("a", "c"): 1 / 6,
            ("a", "d"): 1 / 6,
            ("b", "c"): 2 / 3,
            ("b", "d"): 1 / 3,
        }
    )
    (batch, *_), *_ = run.splits.test
    scores = run.model.full_sort_predict(batch)
    assert scores.shape == (3, len(tokens))
    assert torch.equal(run.model.predict(batch), scores[torch.arange(3), batch["item_id"]])


def test_a_transition_graph_of_features_ranks_by_their_cosine(toy):
    options = {"feature_share": 1.0, "last_events": 2, "decay": 0.25, "temperature": 0.1}
    options["uniform_share"] = 0.2
    run = Run(load_config("TransitionGraph", config_dict={**toy, **options}))
    assert run.model.modalities == ["text", "image"]
    (batch, *_), *_ = run.splits.test
    features = run.splits.train._dataset.features

    scores = run.model.full_sort_predict(batch)

    history = batch["item_id_list"][0, : batch["item_length"][0]].tolist()
    expected = torch.zeros(run.model.n_items)
    for weight, item in ((0.8, history[-1]), (0.2, history[-2])):
        cosine = torch.full((run.model.n_items,), -torch.inf)
        for other in range(1, run.model.n_items):
            pairs = [
                torch.cosine_similarity(f.values[item].float(), f.values[other].float(), dim=0)
                for f in features.values()
                if f.present[item] and f.present[other]
            ]
            if other != item:
                cosine[other] = sum(pairs) / len(pairs) if pairs else -1.0
        expected += weight * (cosine / 0.1).softmax(0)
    assert_close(scores[0].exp(), 0.8 * expected + 0.2 / run.model.n_items)


def test_a_transition_graph_compares_whitened_features_if_it_is_told_to(toy):
    options = {"feature_share": 1.0, "modalities": ["text"], "feature_transform": "whiten"}
    run = Run(load_config("TransitionGraph", config_dict={**toy, **options}))
    values, present = run.splits.train._dataset.features["text"]

    expected = fit_transform(values[present], "whiten")(values, present)

    assert_close(run.model.unit, torch.nn.functional.normalize(expected, dim=1))


def test_a_share_of_features_without_features_is_refused(tried):
    with pytest.raises(
        UserError, match="feature_share 0.5 needs a feature file .*Set feature_share: 0"
    ):
        Run(load_config("TransitionGraph", config_dict=tried))
