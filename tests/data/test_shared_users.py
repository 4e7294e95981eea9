"""Users of other data sets are left out of the data of a pre-training."""

import numpy as np
import pytest
from tiny import PRETRAIN, TINY_MMM4REC

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.domains import MixtureError
from recbole_mm.data.errors import DatasetError
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.data.shared_users import SharedUsers, shared_users
from recbole_mm.prepare.catalog import LackingData, require_dataset
from recbole_mm.run.identity import data_hashes
from recbole_mm.run.stages import run_stages


def write_domain(root, name, users, user_column="user_id"):
    """Each user walks over the items a, b, c, d."""
    folder = root / name
    folder.mkdir(parents=True)
    rows = [
        f"{user}\t{item}\t{1_400_000_000 + n}" for user in users for n, item in enumerate("abcd")
    ]
    header = f"{user_column}:token\titem_id:token\ttimestamp:float"
    (folder / f"{name}.inter").write_text("\n".join([header, *rows]) + "\n")
    values = np.random.default_rng(len(name)).normal(size=(4, 3)).astype(np.float32)
    write_item_features(feature_path(folder, name, "text"), list("abcd"), values, {"encoder": "x"})


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "dataset"
    write_domain(root, "Source", ["u1", "u2", "u3"])
    write_domain(root, "Other", ["u2", "u4"])
    write_domain(root, "Target", ["u2", "u3", "u9"])
    return root


def config_of(root, name, **settings):
    return load_config("MMM4Rec", name, (), {"data_path": str(root), **TINY_MMM4REC, **settings})


def users_in(dataset):
    return sorted(map(str, dataset.field2id_token["user_id"][1:]))


def test_users_of_the_target_are_left_out_and_counted(root, caplog):
    caplog.set_level("INFO")
    dataset = MultiModalDataset(config_of(root, "Source", exclude_users_of=["Target"]))

    assert users_in(dataset) == ["u1"]
    assert (dataset.user_num, len(dataset)) == (2, 4)
    assert (
        "exclude_users_of: 2 of 3 users of Source, and 8 of 12 interactions, are excluded: users of "
        "Target" in caplog.text
    )


@pytest.mark.parametrize("written", [False, True])
def test_they_are_left_out_of_every_domain_of_a_mixture(root, written):
    domains = {"domains": ["Source", "Other"]}
    if written:
        from recbole_mm.prepare.commands import mix

        mix.main(["Both", "Source", "Other", f"--output={root}"])
        domains = {}

    dataset = MultiModalDataset(config_of(root, "Both", exclude_users_of="Target", **domains))

    assert users_in(dataset) == ["Other:u4", "Source:u1"]
    assert dataset.domains == ["Source", "Other"]


def test_a_mixture_whose_users_are_left_out_is_its_domains(root):
    (root / "Both").mkdir()
    (root / "Both" / "Both.yaml").write_text("domains: [Target, Other]\n")
    (root / "Both" / "Both.inter").write_text("user_id:token\titem_id:token\nTarget:u1\ta\n")

    dataset = MultiModalDataset(config_of(root, "Source", exclude_users_of=["Both"]))

    assert users_in(dataset) == ["u1"]


def test_parts_of_a_target_that_is_split_already_count_together(root):
    header = "user_id:token\titem_id:token\n"
    (root / "Target" / "Target.inter").unlink()
    (root / "Target" / "Target.train.inter").write_text(f"{header}u1\ta\n")
    (root / "Target" / "Target.test.inter").write_text(f"{header}u3\ta\n")

    dataset = MultiModalDataset(config_of(root, "Source", exclude_users_of=["Target"]))

    assert users_in(dataset) == ["u2"]


def test_nothing_changes_without_shared_users(root):
    write_domain(root, "Far", ["x"])

    dataset = MultiModalDataset(config_of(root, "Source", exclude_users_of=["Far"]))

    assert users_in(dataset) == ["u1", "u2", "u3"]


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["Source"], MixtureError, "'Source' is the data set itself, .*: name other data sets"),
        (["../Source"], MixtureError, "must be a list of names of data sets"),
        (["Whole"], DatasetError, r"all 3 users of Source are users of \['Whole'\]"),
        (["None"], LackingData, "exclude_users_of: data set 'None': .*None.inter does not exist"),
        (["Named"], DatasetError, "no column 'user_id' of users; it has session, item_id"),
    ],
)
def test_what_cannot_be_left_out_is_refused(root, names, error, message):
    write_domain(root, "Whole", ["u1", "u2", "u3", "u4"])
    write_domain(root, "Named", ["u1"], user_column="session")

    with pytest.raises(error, match=message):
        config = config_of(root, "Source", exclude_users_of=names)
        require_dataset(config)
        MultiModalDataset(config)


def test_a_domain_whose_users_would_be_left_out_of_its_own_mixture_is_refused(root):
    config = config_of(root, "Both", domains=["Source", "Other"], exclude_users_of=["Other"])

    message = "'Other' is a domain of the mixture Both, .*: remove Other from the domains, or name"
    with pytest.raises(MixtureError, match=message):
        MultiModalDataset(config)


def test_it_does_not_go_with_files_that_are_split_already(root):
    for part in ("train", "test"):
        (root / "Source" / f"Source.{part}.inter").write_bytes(
            (root / "Source" / "Source.inter").read_bytes()
        )
    config = config_of(
        root, "Source", exclude_users_of=["Target"], benchmark_filename=["train", "test"]
    )

    with pytest.raises(DatasetError, match="does not work with benchmark_filename"):
        MultiModalDataset(config)


def test_a_run_depends_on_the_users_that_it_leaves_out(root):
    config = config_of(root, "Source", exclude_users_of=["Target"])
    before = data_hashes(config)

    assert set(before) == {"Source.inter", "Source.text.npz", "Target.inter"}
    with open(root / "Target" / "Target.inter", "a") as file:
        file.write("u1\ta\t1\n")
    assert data_hashes(config) != before


def test_shared_users_are_counted_in_mixtures_and_without_those_left_out(root):
    source = {"domains": ["Source", "Other"]}
    target = config_of(root, "Target")

    def shared(**settings):
        return shared_users(config_of(root, "Both", **source, **settings), target)

    n_source = shared().n_source
    without = shared(exclude_users_of=["Target"])
    assert shared() == SharedUsers("Both", "Target", 2, 3, n_source, 0, False)
    assert without == SharedUsers("Both", "Target", 0, 3, n_source, 2, False)
    assert f"; 2 of its {n_source} users are excluded (exclude_users_of)" in str(without)
    assert "2 of the 3 users of Target have the token of a user of Both" in str(shared())
    assert "exclude_users_of: targets" in str(shared())
    assert shared_users(config_of(root, "Nowhere"), target) is None


def test_stages_state_shared_users_and_leave_them_out(root, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")
    write_domain(root, "Large", [f"u{n}" for n in range(20)])
    stages = [
        {**PRETRAIN, "dataset": "Large", "exclude_users_of": "targets", "epochs": 1},
        {"train_stage": "finetune", "dataset": "Target", "epochs": 1},
        {"train_stage": "finetune", "dataset": "Other", "epochs": 1},
    ]

    run_stages(
        config_dict={**TINY_MMM4REC, "model": "MMM4Rec", "data_path": str(root), "stages": stages}
    )

    assert "4 of 20 users of Large" in caplog.text  # u2, u3, u4, u9
    assert "0 of the 3 users of Target have the token of a user of Large" in caplog.text
