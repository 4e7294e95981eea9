import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recbole.data import data_preparation
from recbole.utils import get_model, get_trainer
from tiny import PRETRAIN
from torch.testing import assert_close

from recbole_mm.compare.dataset_description import describe_dataset
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.domains import MixtureError, domains_of
from recbole_mm.data.errors import DatasetError
from recbole_mm.data.examples import TARGET_LIST
from recbole_mm.data.feature_files import FeatureFileError, feature_path, write_item_features
from recbole_mm.prepare.catalog import require_dataset
from recbole_mm.recommend.catalog import Catalog
from recbole_mm.reporting.ranks import evaluate_ranks
from recbole_mm.run.run import Run

SMALL = {"hidden_size": 16, "head_dim": 8, "d_state": 4, "n_groups": 2, "inner_size": 16}


def write_domain(root, name, users, width=3, info=None, time=True, modalities=("text", "image")):
    """Users walk over the items a, b, c, d; item 'a' is not the same thing in two domains."""
    folder = root / name
    folder.mkdir(parents=True)
    rows = ["user_id:token\titem_id:token" + ("\ttimestamp:float" if time else "")]
    for user in range(users):
        for step in range(4):
            rows.append(f"u{user}\t{'abcd'[step]}" + (f"\t{1_400_000_000 + step}" if time else ""))
    (folder / f"{name}.inter").write_text("\n".join(rows) + "\n")
    for modality in modalities:
        values = np.random.default_rng(len(name)).normal(size=(4, width)).astype(np.float32)
        path = feature_path(folder, name, modality)
        write_item_features(path, list("dcba"), values, info or {"encoder": "clip"})


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "dataset"
    write_domain(root, "Food", 9)
    write_domain(root, "Homes", 3)
    return root


def load(root, **settings):
    settings = {"data_path": str(root), "domains": ["Food", "Homes"], **SMALL, **settings}
    config = load_config("MMM4Rec", "Both", (), settings)
    require_dataset(config)
    return config, MultiModalDataset(config)


def test_a_mixture_is_its_domains_with_their_names_and_their_own_features(root):
    _, both = load(root)
    assert (both.user_num - 1, both.item_num - 1, len(both)) == (12, 8, 48)
    assert both.modalities == ["text", "image"]
    stored = np.load(feature_path(root / "Homes", "Homes", "text"))
    wanted = dict(zip(stored["item_id"], stored["feature"], strict=True))
    for token in "abcd":
        item = both.token2id("item_id", f"Homes:{token}")
        assert both.item_domain[item] == 1
        np.testing.assert_array_equal(both.features["text"].values[item], wanted[token])
    assert not (root / "Both").exists()


def test_it_is_the_same_as_the_mixture_that_the_command_writes(root):
    pytest.importorskip("polars")
    from recbole_mm.prepare.commands import mix

    _, by_name = load(root)
    mix.main(["Both", "Food", "Homes", f"--output={root}"])
    _, written = load(root, domains=None)
    assert written.domains == ["Food", "Homes"]
    assert list(written.field2id_token["item_id"]) == list(by_name.field2id_token["item_id"])
    for name in ("text", "image"):
        assert torch.equal(written.features[name].values, by_name.features[name].values)


def test_columns_and_modalities_that_not_all_domains_have_are_left_out(root, caplog):
    caplog.set_level("INFO")
    write_domain(root, "Bare", 2, time=False, modalities=["text"])
    _, mixed = load(root, domains=["Food", "Bare"])
    assert not mixed.has_time and mixed.modalities == ["text"]
    assert "Bare/Bare.inter has no column 'timestamp'" in caplog.text
    assert "omitted: {'Food': ['image']}" in caplog.text


def test_a_modality_that_is_named_is_used_where_it_exists(root, caplog):
    write_domain(root, "Bare", 2, modalities=["text"])
    config, mixed = load(root, domains=["Bare", "Food"], modalities=["text", "image"])
    assert mixed.features["text"].present[1:].all()
    values, present = mixed.features["image"]
    assert torch.equal(present[1:], mixed.item_domain[1:] == 1)
    assert (values[1:].abs().sum(1) > 0).equal(present[1:])
    assert mixed.feature_info["image"]["encoder"] == "clip"
    assert "modality image: Bare has no such feature file" in caplog.text
    train = mixed.build()[0]
    catalog = Catalog.of_dataset(train, train.item_counts())
    assert torch.equal(catalog.features["image"].present, present)
    assert describe_dataset(config).items["has_image"].sum() == 4
    with pytest.raises(FeatureFileError, match=r"Bare.audio.npz: no such feature file"):
        load(root, domains=["Bare", "Food"], modalities=["text", "audio"])


def write_events(root, name, events):
    """A data set of (user, item, time) events in this order of rows; without times if they are None."""
    timed = events[0][2] is not None
    rows = ["user_id:token\titem_id:token" + ("\ttimestamp:float" if timed else "")]
    rows += ["\t".join(map(str, event if timed else event[:2])) for event in events]
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / f"{name}.inter").write_text("\n".join(rows) + "\n")


def sequences_of(dataset):
    """Items of every user, in the order in which they are read."""
    users, items = (dataset.field2id_token[field] for field in ("user_id", "item_id"))
    found = {}
    for user, item in zip(dataset.history["user_id"], dataset.history["item_id"], strict=True):
        found.setdefault(str(users[user]), []).append(str(items[item]))
    return found


@pytest.mark.parametrize("way", ["by name", "written"])
def test_domains_with_times_are_in_order_of_time_beside_one_without(root, way):
    backwards = [(f"u{user}", item, 9 - k) for user in range(5) for k, item in enumerate("abcd")]
    write_events(root, "Timed", backwards)
    write_events(root, "Rows", [(user, item, None) for user, item, _ in backwards])
    domains = ["Rows", "Timed"]
    if way == "written":
        from recbole_mm.prepare.commands import mix

        mix.main(["Both", *domains, f"--output={root}"])

    _, both = load(root, domains=domains, modalities=[], use_item_id=True, use_time=False)
    train, _, test = both.build()

    assert sequences_of(train)["Timed:u3"] == [f"Timed:{item}" for item in "dcba"]
    assert sequences_of(train)["Rows:u3"] == [f"Rows:{item}" for item in "abcd"]
    assert not both.has_time
    targets = [str(both.field2id_token["item_id"][i]) for i in test.inter_feat["item_id"]]
    assert sorted(set(targets)) == ["Rows:d", "Timed:a"]


@pytest.mark.parametrize("positions", ["last", "all"])
def test_item_shares_are_those_of_the_targets_that_balanced_epochs_draw(root, positions):
    random = np.random.default_rng(0)
    for name, users, length in (("Short", 100, 5), ("Long", 40, 30)):
        events = [
            (f"u{u}", f"i{random.integers(20)}", k) for u in range(users) for k in range(length)
        ]
        write_events(root, name, events)
    settings = {"domain_sampling": "balanced", "loss_positions": positions, "modalities": []}
    settings |= {"MAX_ITEM_LIST_LENGTH": 20, "use_item_id": True, "use_time": False}
    config, both = load(root, domains=["Short", "Long"], **settings)
    train = data_preparation(config, both)[0]._dataset
    drawn = torch.zeros(both.item_num)
    for epoch in range(40):
        train.on_epoch_start(epoch)
        rows = train[torch.arange(len(train))]
        targets = rows[TARGET_LIST if positions == "all" else "item_id"].flatten()
        drawn += torch.bincount(targets[targets > 0], minlength=both.item_num)

    shares = train.item_shares()

    assert shares.sum().item() == pytest.approx(1) and shares[0] == 0
    of_short = both.item_domain == 0
    share_drawn = (drawn[of_short].sum() / drawn.sum()).item()
    assert shares[of_short].sum().item() == pytest.approx(share_drawn, abs=0.005)
    assert torch.allclose(shares.float(), drawn / drawn.sum(), atol=0.004)


def test_domains_that_do_not_go_together_are_refused(root):
    write_domain(root, "Wide", 2, width=5)
    write_domain(root, "Other", 2, info={"encoder": "siglip"})
    write_domain(root, "Empty", 0)
    with pytest.raises(MixtureError, match=r"Wide.text.npz: width 5, but Food has 3"):
        load(root, domains=["Food", "Wide"])
    with pytest.raises(
        MixtureError, match=r"differ in encoder.*Food.text.npz: .*clip.*Other.text.npz: .*siglip"
    ):
        load(root, domains=["Food", "Other"])
    with pytest.raises(DatasetError, match=r"Empty.inter: no interactions"):
        load(root, domains=["Food", "Empty"])
    path = root / "Other" / "Other.inter"
    path.write_text(path.read_text() + "u\ta\t-5\n")
    row = len(path.read_text().splitlines())
    with pytest.raises(DatasetError, match=rf"Other/Other.inter: 1 time.*first in row {row} "):
        load(root, domains=["Food", "Other"])
    with pytest.raises(MixtureError, match=r"mixture 'Both'.*duplicate domains \['Food'\]"):
        load(root, domains=["Food", "Food"])
    with pytest.raises(ConfigError, match="data set 'Nowhere': .*Nowhere.inter does not exist"):
        load(root, domains=["Food", "Nowhere"])


def test_users_without_a_domain_are_refused(root):
    (root / "Both").mkdir()
    rows = [f"u{user}\tFood:{item}\t1" for user in range(3) for item in "abcd"]
    text = "user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n"
    (root / "Both" / "Both.inter").write_text(text)

    message = r"Both: user 'u0' does not begin with the name of a domain, \['Food', 'Homes'\]"
    with pytest.raises(MixtureError, match=message):
        load(root, modalities=[])


def test_balanced_domains_give_as_many_examples_each_and_none_is_forgotten(root):
    config, both = load(root, domain_sampling="balanced")
    train, _, _ = data_preparation(config, both)
    train._dataset.on_epoch_start(0)
    domain = both.item_domain[torch.cat([batch["item_id"] for batch in train])]
    assert torch.bincount(domain).tolist() == [6, 6]  # 9 and 3 users with one example each
    shares = train._dataset.item_shares()[1:]
    of_domain = torch.zeros(2, dtype=shares.dtype).index_add_(0, both.item_domain[1:], shares)
    assert of_domain.tolist() == [pytest.approx(0.5)] * 2
    seen = set()
    for epoch in range(4):
        train._dataset.on_epoch_start(epoch)
        users = torch.cat([batch["user_id"] for batch in train]).tolist()
        assert len(set(users)) == 6 + 3  # every example of the small domain, twice
        seen |= set(users)
    assert len(seen) == 12
    settings = {"data_path": str(root), "domain_sampling": "balanced", **SMALL}
    config = load_config("MMM4Rec", "Food", (), settings)
    food = MultiModalDataset(config)
    with pytest.raises(DatasetError, match="balanced needs a mixture; Food has no domains"):
        data_preparation(config, food)


@pytest.mark.parametrize("sampling", ["proportional", "balanced"])
def test_domains_join_one_after_another(root, sampling):
    write_domain(root, "Shops", 6)
    given = {"domains": ["Homes", "Food", "Shops"], "domain_sampling": sampling}
    config, both = load(root, **given, domain_curriculum=2)
    train = data_preparation(config, both)[0]._dataset
    drawn = []
    for epoch in range(6):
        train.on_epoch_start(epoch)
        domain = both.item_domain[train[torch.arange(len(train))]["item_id"]]
        drawn.append(torch.bincount(domain, minlength=3).tolist())

    later = {"proportional": [[18, 0, 0], [4, 14, 0], [3, 9, 6]]}  # of 3, 9 and 6 users
    later["balanced"] = [[18, 0, 0], [9, 9, 0], [6, 6, 6]]
    assert drawn[::2] == drawn[1::2] == later[sampling]
    shares = train.item_shares()
    of_domain = [shares[both.item_domain == number].sum().item() for number in range(3)]
    assert of_domain == pytest.approx([n / 18 for n in later[sampling][2]])
    with pytest.raises(DatasetError, match="domain_curriculum: 1 needs a mixture; Food has no"):
        settings = {"data_path": str(root), "domain_curriculum": 1, **SMALL}
        food = load_config("MMM4Rec", "Food", (), settings)
        data_preparation(food, MultiModalDataset(food))


@pytest.mark.parametrize("model", ["SASRec", "MMM4Rec"])
def test_every_trainer_draws_the_examples_of_each_epoch(root, model, monkeypatch):
    settings = {
        "data_path": str(root),
        "domains": ["Food", "Homes"],
        "domain_curriculum": 1,
        "epochs": 3,
    }
    run = Run(load_config(model, "Both", (), {**settings, **(SMALL if model == "MMM4Rec" else {})}))
    drawn = [0, 0]
    loss = get_model(model).calculate_loss

    def counted(self, interaction):
        domain = run.splits.train._dataset.item_domain[interaction["item_id"]]
        drawn[:] = (torch.tensor(drawn) + torch.bincount(domain, minlength=2)).tolist()
        return loss(self, interaction)

    monkeypatch.setattr(get_model(model), "calculate_loss", counted)
    run.train()

    assert drawn == [12 + 9 + 9, 3 + 3]  # Food alone, then 9 and 3 users with an example each


def test_what_trains_nothing_reads_the_examples_of_all_domains(root):
    settings = {
        "data_path": str(root),
        "domains": ["Food", "Homes"],
        "modalities": [],
        "feature_share": 0,
    }
    config = load_config("TransitionGraph", "Both", (), {**settings, "domain_curriculum": 1})
    dataset = MultiModalDataset(config)
    train = data_preparation(config, dataset)[0]._dataset

    counts = torch.bincount(dataset.item_domain[train[torch.arange(len(train))]["item_id"]])

    assert counts.tolist() == [9, 3]


@pytest.mark.parametrize("sampling", ["proportional", "balanced"])
def test_held_out_domains_are_validated_and_tested_and_not_trained_on(root, sampling):
    write_domain(root, "Shops", 6)
    given = {"domains": ["Homes", "Food", "Shops"], "domain_sampling": sampling}
    config, both = load(root, **given, held_out_domains=["Shops"], **PRETRAIN)
    train, valid, test = (loader._dataset for loader in data_preparation(config, both))

    number = both.domains.index("Shops")
    found = [both.item_domain[part.inter_feat["item_id"]] for part in (train, valid, test)]
    assert [len(domain) for domain in found] == [12, 6, 6]
    assert not (found[0] == number).any()
    assert all((domain == number).all() for domain in found[1:])
    counts = train.item_counts()
    assert counts[both.item_domain == number].sum() == 0 < counts.sum()
    assert train.item_shares()[both.item_domain == number].sum() == 0
    get_model("MMM4Rec")(config, train).calculate_loss(train[torch.arange(12)]).backward()
    for wrong, message in (
        ("Shop", r"'Shop' is not a domain of Both, which has \['Homes', 'Food', 'Shops'\]"),
        (given["domains"], "are all domains; leave one for training"),
    ):
        config, both = load(root, **given, held_out_domains=wrong)
        with pytest.raises(DatasetError, match=message):
            both.build()


@pytest.mark.parametrize("name", ["MMM4Rec", "SASRec"])
def test_the_target_is_ranked_among_the_items_of_its_domain(root, name):
    ranks = {}
    for same in (False, True):
        own = SMALL if name == "MMM4Rec" else {"hidden_size": 16, "inner_size": 16}
        given = {"data_path": str(root), "domains": ["Food", "Homes"], "epochs": 0, **own}
        given |= {
            "seed": 4,
            "same_domain_candidates": same,
            "topk": [1, 4],
            "valid_metric": "NDCG@4",
        }
        run = Run(load_config(name, "Both", (), {**given, "checkpoint_dir": str(root)}))
        found = evaluate_ranks(run)
        ranks[same] = found.ranks["rank"].to_numpy()
        recall = {k: (ranks[same] <= k).mean() for k in (1, 4)}
        assert found.metrics["recall@1"] == pytest.approx(recall[1], abs=1e-4)
        scores = torch.cat([run.model.full_sort_predict(batch[0]) for batch in run.splits.test])

    target = run.splits.test.dataset.inter_feat["item_id"]
    domain = run.splits.test.dataset.item_domain
    others = domain != domain[target].unsqueeze(1)
    own_score = scores.gather(1, target.unsqueeze(1))
    better = (scores > own_score).masked_fill(others, False)
    assert (ranks[True] == 1 + better.sum(dim=1).numpy()).all()
    assert ranks[True].max() <= 4
    assert (ranks[True] < ranks[False]).any()
    given |= {"domains": None}
    food = Run(load_config(name, "Food", (), {**given, "checkpoint_dir": str(root)}))
    with pytest.raises(ConfigError, match="same_domain_candidates needs a mixture, but 'Food'"):
        evaluate_ranks(food)


def test_negatives_may_be_kept_to_the_domain(root):
    losses = []
    for same in (False, True):
        settings = {**PRETRAIN, "same_domain_negatives": same, "logq_correction": False}
        config, both = load(root, **settings)
        train, _, _ = data_preparation(config, both)
        model = get_model("MMM4Rec")(config, train._dataset)
        target = torch.tensor([both.token2id("item_id", t) for t in ("Food:a", "Homes:a")])
        losses.append(
            model.candidate_loss.of_logits(torch.zeros(2, 2), target, torch.arange(2)).item()
        )
    assert losses == [pytest.approx(np.log(2)), 0.0]
    with pytest.raises(ValueError, match="needs one of softmax: trained, full, in_batch, not gbce"):
        load_and_make(root, same_domain_negatives=True, softmax="gbce")


@pytest.mark.parametrize("items_per_block", [0, 2])
@pytest.mark.parametrize("name", ["MMM4Rec", "MISSRec", "UniSRec"])
def test_a_softmax_over_the_items_of_the_domain(root, name, items_per_block):
    found = {}
    for same in (False, True):
        settings = {**PRETRAIN, **SMALL, "same_domain_negatives": same, "softmax": "trained"}
        settings |= {"data_path": str(root), "domains": ["Food", "Homes"], "n_heads": 2}
        settings |= {"items_per_block": items_per_block}
        config = load_config(name, "Both", (), settings)
        train, _, _ = data_preparation(config, MultiModalDataset(config))
        torch.manual_seed(0)
        model = get_model(name)(config, train._dataset).eval()
        model.on_epoch_start(0)
        both, batch = train._dataset, next(iter(train))
        items, rows = model.embed_batch(batch)
        users = model.user_vectors(batch, items, rows)
        target = batch["item_id"]
        found[same] = model.target_loss(users, items, target)
        logits = model.score_items(users, torch.arange(model.n_items))
        allowed = model.item_table.trained.expand(len(target), -1).clone()
        if same:
            allowed &= both.item_domain == both.item_domain[target].unsqueeze(1)
        expected = F.cross_entropy(logits.masked_fill(~allowed, -torch.inf), target)
        assert_close(found[same], expected, rtol=1e-4, atol=1e-5)
        if same:
            found[same].backward()
            assert next(model.adapters["text"].parameters()).grad.abs().sum() > 0

    assert found[True] < found[False]  # fewer negatives


def load_and_make(root, **settings):
    config, both = load(root, **settings)
    train, valid, test = data_preparation(config, both)
    model = get_model("MMM4Rec")(config, train._dataset)
    return get_trainer(config["MODEL_TYPE"], "MMM4Rec")(config, model), train, valid, test


def test_a_pretrain_stage_on_a_mixture_trains_and_can_be_evaluated(root):
    settings = {**PRETRAIN, "domain_sampling": "balanced", "same_domain_negatives": True}
    trainer, train, valid, test = load_and_make(root, **settings, epochs=2)
    trainer.fit(train, valid, saved=False)
    assert 0 <= trainer.evaluate(test, load_best_model=False)["ndcg@10"] <= 1


@pytest.mark.parametrize(
    "text",
    [
        "domains: 3", "domains: {A: B}", "domains: [1, 2]", "domains: [[A]]", "domains: [../A]",
        "domains: [/etc]", "domains: ['']", "domains: ['..']", "domains: [A, null]", "[A]", "a: [",
        "domains: &a [*a]", "domains: [" + "x" * 300 + "]", "\xff", '"domains": "a\\0b"',
    ],
)  # fmt: skip
def test_a_file_of_domains_names_folders_beside_the_mixture_or_is_refused(tmp_path, text):
    (tmp_path / "Mix.yaml").write_text(text, encoding="latin-1")

    with pytest.raises(MixtureError, match=r"Mix\.yaml"):
        domains_of({"dataset": "Mix", "data_path": str(tmp_path), "domains": None})
