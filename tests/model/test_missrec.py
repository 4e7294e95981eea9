"""MISSRec: the authors' numbers, options and wrong inputs."""

import sys
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from parity import RUNNERS, Vectors
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.data.examples import TARGET_LIST
from recbole_mm.data.features import ItemFeatures
from recbole_mm.model.sequential_recommender.missrec import MISSRec

N_ITEMS, LENGTH = 9, 5
WIDTH = {"text": 6, "image": 5, "audio": 4}
SMALL = {
    "hidden_size": 8,
    "inner_size": 6,
    "n_heads": 2,
    "hidden_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
    "reg_weight": 0.01,
    "sequence_loss_weight": 0.1,
    "MAX_ITEM_LIST_LENGTH": LENGTH,
    "length_group_size": 2,
}


def features(name: str, missing=()) -> ItemFeatures:
    generator = torch.Generator().manual_seed(len(name))
    values = torch.randn(N_ITEMS, WIDTH[name], generator=generator)
    present = torch.ones(N_ITEMS, dtype=torch.bool)
    present[[0, *missing]] = False
    values[~present] = 0
    return ItemFeatures(values, present)


def build(
    modalities=("text", "image"), missing=None, extra=None, untrained=(), **settings
) -> MISSRec:
    """A small model with the defaults of its property file, in float64."""
    torch.manual_seed(0)
    missing = missing or {}
    table = {name: features(name, missing.get(name, ())) for name in modalities}
    dataset = SimpleNamespace(
        modalities=list(modalities),
        features=table,
        num=lambda _: N_ITEMS,
        field2id_token={"item_id": [str(item) for item in range(N_ITEMS)]},
        read_features=lambda name: extra[name],
        item_shares=lambda: torch.full((N_ITEMS,), 1 / N_ITEMS),
        item_counts=lambda: torch.tensor([i not in (0, *untrained) for i in range(N_ITEMS)]),
    )
    config = load_config("MISSRec", "toy", config_dict={**SMALL, "seed": 0, **settings})
    model = MISSRec(config, dataset).double().eval()
    if model.fusion.factor is not None:
        torch.nn.init.constant_(model.fusion.factor, 2.0)
    return model


def batch(*histories, target=None) -> dict:
    item_seq = torch.zeros(len(histories), LENGTH, dtype=torch.long)
    for row, history in zip(item_seq, histories, strict=True):
        row[: len(history)] = torch.tensor(history)
    lengths = torch.tensor([len(history) for history in histories])
    target = target or [1 + i for i in range(len(histories))]
    return {"item_id_list": item_seq, "item_length": lengths, "item_id": torch.tensor(target)}


HISTORIES = batch([1, 2, 3, 4, 5], [6], [7, 8], [2, 2, 1])


def golden_cases():
    golden = Path(__file__).parents[1] / "golden"
    for name in ("missrec_cases", "dpc_knn", "item_drop"):
        for case in Vectors(golden / f"{name}.npz").cases:
            yield golden / f"{name}.npz", case


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("path, case", list(golden_cases()))
def test_it_computes_the_authors_numbers(path, case, dtype):
    report = RUNNERS[path.stem](Vectors(path), case, dtype)

    assert report.holds, report


# every shape of the model


@pytest.mark.parametrize("modalities", [("text",), ("image", "text"), ("text", "image", "audio")])
@pytest.mark.parametrize("fusion", ["static", "dynamic_shared", "dynamic_instance"])
@pytest.mark.parametrize("seq_fusion", ["add", "contextual"])
@pytest.mark.parametrize("stage, use_item_id", [("pretrain", False), ("finetune", True)])
@pytest.mark.parametrize("coefficient", [0.0, 1.0])
def test_every_shape_trains(modalities, fusion, seq_fusion, stage, use_item_id, coefficient):
    model = build(
        modalities,
        missing={"image": [2]},
        item_mm_fusion=fusion,
        seq_mm_fusion=seq_fusion,
        train_stage=stage,
        use_item_id=use_item_id,
        softmax="in_batch" if stage == "pretrain" else "full",
        item_drop_coefficient=coefficient,
    ).train()

    loss = model.calculate_loss(HISTORIES)
    loss.backward()

    assert loss.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize("rows", [0, 1, 3, 100])
@pytest.mark.parametrize("seq_fusion", ["add", "contextual"])
def test_grouping_rows_by_length_changes_nothing(rows, seq_fusion):
    model = build(seq_mm_fusion=seq_fusion, n_layers=4)
    loss, scores = model.calculate_loss(HISTORIES), model.full_sort_predict(HISTORIES)

    model.positions_per_group = rows

    assert_close(model.calculate_loss(HISTORIES), loss)
    assert_close(model.full_sort_predict(HISTORIES), scores)


@pytest.mark.parametrize("seq_fusion", ["add", "contextual"])
@pytest.mark.parametrize("n_layers", [2, 4])
def test_a_users_scores_depend_on_neither_padding_nor_the_other_users(seq_fusion, n_layers):
    model = build(seq_mm_fusion=seq_fusion, n_layers=n_layers)
    together = model.full_sort_predict(HISTORIES)

    alone = batch([7, 8])
    alone["item_id_list"] = alone["item_id_list"][:, :2]

    assert_close(model.full_sort_predict(alone)[0], together[2])


# interests


def test_it_scores_before_the_first_clustering():
    model = build()
    assert not model.interests.filled

    assert model.full_sort_predict(HISTORIES).isfinite().all()
    assert model.interests.filled


def test_a_reloaded_model_scores_the_same_without_clustering(monkeypatch):
    model, other = build(), build()
    torch.nn.init.normal_(model.adapters["text"].weight)
    expected = model.full_sort_predict(HISTORIES)

    other.load_state_dict(model.state_dict())
    monkeypatch.setattr(other, "update_interests", lambda: pytest.fail("clustered again"))

    assert_close(other.full_sort_predict(HISTORIES), expected)


@pytest.mark.parametrize("every, expected", [(1, [0, 1, 2, 3]), (2, [0, 2]), (0, [0])])
def test_interests_are_clustered_before_every_nth_epoch(monkeypatch, every, expected):
    model, times = build(recluster_every=every), []
    cluster = model.update_interests
    monkeypatch.setattr(model, "update_interests", lambda: (times.append(1), cluster()))

    clustered = []
    for epoch in range(4):
        before = len(times)
        model.on_epoch_start(epoch)
        clustered += [epoch] * (len(times) - before)

    assert clustered == expected


@pytest.mark.parametrize("method", ["kmeans", "dpc_knn"])
@pytest.mark.parametrize("ratio, n_interests", [(1e-9, 1), (0.5, 8), (1.0, 16)])
def test_from_one_interest_to_one_per_vector(method, ratio, n_interests):
    model = build(interest_clustering=method, interest_ratio=ratio)

    assert model.calculate_loss(HISTORIES).isfinite()
    assert len(model.interests.embeddings) == n_interests + 1


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("interest_ratio", 0, "it must be a number > 0 and <= 1"),
        ("interest_ratio", 1.1, "it must be a number > 0 and <= 1"),
        ("interest_clustering", "ward", "it must be one of kmeans, faiss, dpc_knn"),
        ("n_layers", 3, "it must be a whole number >= 2 and even"),
    ],
)
def test_a_value_that_its_key_cannot_have_is_refused(key, value, message):
    with pytest.raises(ValueError, match=f"'{key}' is {value!r}; {message}"):
        build(**{key: value})


def test_faiss_must_be_installed_to_be_chosen(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)

    with pytest.raises(ValueError, match="pip install faiss-cpu"):
        build(interest_clustering="faiss")


# what is missing


def test_missing_modalities_have_no_effect():
    """Neither their features nor the bias of the adapter."""
    model = build(missing={"image": [2, 8]}, use_item_id=False)
    scores = model.full_sort_predict(HISTORIES)

    model.feature("image")[[0, 2, 8]] = 100.0
    assert_close(model.full_sort_predict(HISTORIES), scores)

    assert (model.interests.lookup[1][[2, 8]] == 0).all()
    user = model.encode(HISTORIES)
    text = torch.nn.functional.normalize(model.adapt("text"), dim=-1)
    assert_close(scores[:, [2, 8]], (user @ text[[2, 8]].T) / model.temperature)


@pytest.mark.parametrize("modalities", [("text",), ("text", "image")])
def test_an_untrained_id_has_no_effect(modalities):
    """Such an item is read and ranked by its features."""
    model = build(modalities, missing={"image": [2]}, untrained=[2, 5], untrained_id=0.75)
    scores = model.full_sort_predict(HISTORIES)

    torch.nn.init.constant_(model.item_embedding.weight.data[2], 100.0)
    torch.nn.init.constant_(model.item_embedding.weight.data[5], -100.0)
    with torch.no_grad():
        items = model.embed_items()
        user = model.encode(HISTORIES, items)
        by_features = model.scores(items._replace(id_candidate=None))(user)
        assert_close(model.scores(items)(user), scores)

    shares = torch.ones(2).double()
    if len(modalities) > 1:  # item 2 has one of them, item 5 both
        shares = torch.tensor([(1 + 0.75) / 2, (2 + 0.75) / 3]).double()
    assert_close(scores[:, [2, 5]], by_features[:, [2, 5]] * shares)
    if len(modalities) > 1:
        assert not torch.isclose(scores[:, [1, 3, 4]], by_features[:, [1, 3, 4]]).any()


def test_as_released_an_untrained_id_counts():
    model = build(untrained=[2, 5], released=True)
    scores = model.full_sort_predict(HISTORIES)

    model.item_embedding.weight.data[[2, 5]] = torch.randn(2, 8).double()

    assert not torch.isclose(model.full_sort_predict(HISTORIES)[:, [2, 5]], scores[:, [2, 5]]).any()


def test_an_item_without_features_and_trained_id_is_never_recommended():
    model = build(missing={"text": [2, 3], "image": [2, 3]}, untrained=[2, 5])

    scores = model.full_sort_predict(HISTORIES)
    one_by_one = model.predict({**HISTORIES, "item_id": torch.tensor([2, 3, 5, 2])})

    assert (scores[:, 2] == -torch.inf).all()
    assert scores[:, [3, 5]].isfinite().all()
    assert (one_by_one == -torch.inf).tolist() == [True, False, False, True]


@pytest.mark.parametrize("settings", [{"released": True}, {"mask_missing": False}])
def test_as_released_a_missing_modality_is_the_bias_of_its_adapter(settings):
    model = build(missing={"image": [2, 8]}, use_item_id=False, **settings)
    scores = model.full_sort_predict(HISTORIES)
    torch.nn.init.normal_(model.adapters["image"].bias)

    assert (model.interests.lookup[1][[2, 8]] > 0).all()
    assert not torch.allclose(model.full_sort_predict(HISTORIES)[:, 8], scores[:, 8])


@pytest.mark.parametrize("seq_fusion", ["add", "contextual"])
@pytest.mark.parametrize("absent", ["text", "image"])
def test_a_modality_that_no_item_has_is_harmless(seq_fusion, absent):
    model = build(missing={absent: range(1, N_ITEMS)}, seq_mm_fusion=seq_fusion)

    loss = model.train().calculate_loss(HISTORIES)
    loss.backward()

    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert (model.interests.lookup[model.modalities.index(absent)] == 0).all()


def test_a_data_set_without_any_features_is_refused():
    everything = range(1, N_ITEMS)
    with pytest.raises(ValueError, match=r"of 0 item vectors \(2 modalities of 8 items\)"):
        build(missing={"text": everything, "image": everything})


@pytest.mark.parametrize("use_item_id", [True, False])
@pytest.mark.parametrize("seq_fusion", ["add", "contextual"])
@pytest.mark.parametrize("others", [[], [[1, 2, 3]]])
def test_a_user_without_any_interest_has_finite_scores_and_gradients(
    use_item_id, seq_fusion, others
):
    model = build(
        missing={"text": [8], "image": [8]}, use_item_id=use_item_id, seq_mm_fusion=seq_fusion
    ).train()
    histories = batch([8, 8], *others)

    scores = model.full_sort_predict(histories)
    loss = model.calculate_loss(histories)
    loss.backward()

    unknown = torch.arange(N_ITEMS) == 8
    assert loss.isfinite() and scores[:, ~unknown].isfinite().all()
    assert scores[:, unknown].isfinite().all() == use_item_id
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


# other options


@pytest.mark.parametrize("softmax", ["all_rows", "full"])
def test_the_padding_item_is_a_candidate_with_all_rows_only(softmax):
    model = build(reg_weight=0.0, softmax=softmax)
    scores, target = model.full_sort_predict(HISTORIES), HISTORIES["item_id"]

    if softmax == "all_rows":
        expected = torch.nn.functional.cross_entropy(scores, target)
    else:
        expected = torch.nn.functional.cross_entropy(scores[:, 1:], target - 1)

    assert_close(model.calculate_loss(HISTORIES), expected)


@pytest.mark.parametrize("masked", [True, False])
def test_a_repeated_target_is_a_negative_unless_it_is_masked(masked):
    model = build(softmax="in_batch", mask_repeated_targets=masked, reg_weight=0.0)
    histories = batch([1, 2], [3], [4, 5], target=[6, 6, 7])
    scores = model.full_sort_predict(histories)[:, [6, 6, 7]]
    if masked:
        scores[0, 1] = scores[1, 0] = -torch.inf

    expected = torch.nn.functional.cross_entropy(scores, torch.arange(3))

    assert_close(model.calculate_loss(histories), expected)


@pytest.mark.parametrize("view", ["intended", "released"])
def test_item_drop_removes_an_item_from_all_modalities_or_from_the_leading_one(view):
    model = build(item_drop_view=view)
    history = model.view_of(batch([1, 2, 3]), None)
    drop = torch.tensor([[False, True, False, False, False]])

    dropped = model.with_items_dropped(history, drop)

    text, image = dropped.item_seqs
    assert dropped.length.tolist() == [2]
    if view == "intended":
        assert text.tolist() == image.tolist() == [[1, 3, 0, 0, 0]]
    else:
        assert text.tolist() == [[2, 3, 0, 0, 0]] and image.tolist() == [[1, 2, 3, 0, 0]]


def test_feature_drop_reads_the_file_of_word_dropped_texts():
    extra = features("text")._replace(values=torch.full((N_ITEMS, WIDTH["text"]), 0.5))
    model = build(word_drop_features="text.dropped", extra={"text.dropped": extra})

    embedding = model._feature_dropped(torch.tensor([3, 4]))

    assert_close(embedding, model.adapters["text"](torch.full((2, 6), 0.5).double()))


def test_an_item_without_word_dropped_text_keeps_its_features():
    extra = features("text", missing=[4])
    model = build(word_drop_features="text.dropped", extra={"text.dropped": extra})

    item_id = torch.tensor([4])

    assert_close(model._feature_dropped(item_id), model.adapt("text", item_id))


@pytest.mark.parametrize(
    "settings, name, message",
    [
        ({"feature_transform": "whiten"}, "text", "does not work with feature_transform: whiten"),
        ({}, "image", "text.dropped has width 5, text has width 6"),
    ],
)
def test_word_dropped_features_of_another_encoder_are_refused(settings, name, message):
    with pytest.raises(ValueError, match=message):
        build(word_drop_features="text.dropped", extra={"text.dropped": features(name)}, **settings)


def test_feature_drop_without_a_file_drops_entries():
    model = build(feature_drop_ratio=0.0)
    item_id = torch.tensor([3, 4])
    assert_close(model._feature_dropped(item_id), model.adapt("text", item_id))

    model.feature_drop_ratio = 0.9
    assert not torch.allclose(model._feature_dropped(item_id), model.adapt("text", item_id))


def test_one_draw_decides_between_item_drop_and_feature_drop():
    view = (model := build()).view_of(HISTORIES, None)

    model.item_drop_coefficient = 1.0
    assert model.augment(view).feature_drop is None
    model.item_drop_coefficient = 0.0
    assert model.augment(view).feature_drop is not None


def test_a_batch_of_one_history_can_be_augmented():
    model = build(train_stage="pretrain", use_item_id=False, softmax="in_batch")

    assert model.calculate_loss(batch([3])).isfinite()


def test_the_regularizer_is_not_computed_at_weight_zero():
    model = build(reg_weight=0.0)
    items, rows = model.embed_batch(HISTORIES)
    user, regularizer = model.read(model.view_of(HISTORIES, rows), items)

    assert regularizer is None
    assert_close(
        model.calculate_loss(HISTORIES), model.target_loss(user, items, HISTORIES["item_id"])
    )


@pytest.mark.parametrize("fusion", ["static", "dynamic_shared", "dynamic_instance"])
def test_parameters_with_a_row_per_item_belong_to_the_domain(fusion):
    model = build(item_mm_fusion=fusion, interest_ratio=0.5)

    of_domain = {
        name
        for name in model.state_dict()
        if any(fnmatch(name, pattern) for pattern in model.domain_parameters)
    }

    expected = {"item_embedding.weight", "interests.lookup", "interests.embeddings"}
    if fusion == "dynamic_instance":
        expected.add("fusion.factor")
    assert of_domain == expected


@pytest.mark.parametrize("n_layers", [2, 4])
@pytest.mark.parametrize("seq_fusion", ["add", "contextual"])
def test_a_causal_model_reads_every_prefix_as_a_history_of_its_own(seq_fusion, n_layers):
    missing = {"image": (2, 7)}
    model = build(missing=missing, causal=True, seq_mm_fusion=seq_fusion, n_layers=n_layers)
    histories = [[1, 2, 3, 4, 5], [6], [7, 8], [2, 2, 1]]
    rows = batch(*histories)
    items, item_rows = model.embed_batch(rows)

    vectors, row, position = model.encode_positions(rows, items, item_rows)

    found = {
        (r, p): vector
        for r, p, vector in zip(row.tolist(), position.tolist(), vectors, strict=True)
    }
    assert len(found) == sum(map(len, histories))
    for r, history in enumerate(histories):
        for end in range(1, len(history) + 1):
            alone = model.encode(batch(history[:end]))
            assert_close(found[r, end - 1], alone[0])


@pytest.mark.parametrize("causal", [False, True])
def test_only_a_causal_model_is_blind_to_what_follows_an_event(causal):
    model = build(causal=causal)
    items = model.all_items()

    def of_first_event(history):
        view = model.view_of(batch(history), None)
        given = model._reader_input(view, items)
        group = torch.zeros(1, dtype=torch.long)
        return model._read_group(given, group, len(history), pad=False, everywhere=True)[0][0, 0]

    same = torch.allclose(of_first_event([1, 2, 3]), of_first_event([1, 5, 4]))
    assert same is causal


def test_a_loss_at_all_positions_is_the_mean_over_the_prefixes():
    settings = {"causal": True, "loss_positions": "all", "reg_weight": 0.0}
    model = build(**settings, repeat_propensity="shared")
    history, targets = [1, 2, 3, 1], [2, 3, 1, 6]
    window = batch(history)
    window[TARGET_LIST] = torch.tensor([[*targets, 0]])

    each = [
        model.calculate_loss(batch(history[: end + 1], target=[target]))
        for end, target in enumerate(targets)
    ]

    assert_close(model.calculate_loss(window), torch.stack(each).mean())
    regularized = build(**{**settings, "reg_weight": 0.5}, repeat_propensity="shared")
    loss = regularized.calculate_loss(window)
    assert loss > model.calculate_loss(window)
    loss.backward()
    assert regularized.position_embedding.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"loss_positions": "all"}, "loss_positions: all needs causal: True"),
        (
            {
                "loss_positions": "all",
                "causal": True,
                "train_stage": "pretrain",
                "use_item_id": False,
            },
            "does not work with train_stage: pretrain",
        ),
        ({"causal": True, "reg_counts_padding": True}, "reg_counts_padding, of the release"),
    ],
)
def test_settings_that_a_causal_model_does_not_go_with_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)
