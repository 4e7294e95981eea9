"""``train_users``: a share of the users has training targets, all are validated and tested."""

import numpy as np
import pytest
import torch

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.data.sequences import drawn_by_token
from recbole_mm.run.splits import load_dataset

SMALL = {"hidden_size": 8, "inner_size": 8, "head_dim": 8, "d_state": 4, "n_groups": 1}


def parts(toy, share, **settings):
    config = load_config("MMM4Rec", None, (), {**toy, **SMALL, "train_users": share, **settings})
    return load_dataset(config).build()


def users(part):
    return {part.id2token(part.uid_field, int(user)) for user in part.inter_feat[part.uid_field]}


def test_smaller_shares_are_parts_of_larger_ones_whatever_the_seed(toy):
    drawn = [users(parts(toy, share)[0]) for share in (0.001, 0.1, 0.25, 1.0)]

    assert [len(group) for group in drawn] == [1, 4, 10, 40]
    assert drawn[0] < drawn[1] < drawn[2] < drawn[3]
    assert users(parts(toy, 0.25, seed=7)[0]) == drawn[2]


def test_all_users_are_validated_and_tested_with_their_whole_histories(toy):
    for part, whole in zip(parts(toy, 0.1)[1:], parts(toy, 1.0)[1:], strict=True):
        ours, theirs = part[torch.arange(40)], whole[torch.arange(40)]
        for field in ("user_id", "item_id", "item_id_list", "timestamp_list", "item_length"):
            assert torch.equal(ours[field], theirs[field])


@pytest.mark.parametrize("settings", [{}, {"loss_positions": "all", "use_time": False}])
def test_no_count_and_no_window_has_an_event_of_other_users(toy, settings):
    train, _, _ = parts(toy, 0.1, **settings)

    assert train.item_counts().sum() == 4 * 5  # seven events, two of them for the evaluation
    assert train.inter_matrix().nnz == 4 * 5
    assert users(train) == {
        train.id2token("user_id", int(user)) for user in train[torch.arange(len(train))]["user_id"]
    }


def test_held_out_items_and_a_share_of_the_users_go_together(toy):
    train, _, test = parts(toy, 0.5, held_out_items=0.25)

    held_out = train.held_out()
    assert held_out.sum() == 3
    assert not held_out[train.inter_feat["item_id"]].any()
    assert len(users(train)) == 20
    assert len(test.inter_feat) == 40


@pytest.mark.parametrize("share", [0, -0.5, 1.5, "half"])
def test_a_share_that_is_none_is_refused(toy, share):
    with pytest.raises(ConfigError, match="'train_users' is .*> 0"):
        load_config("MMM4Rec", None, (), {**toy, **SMALL, "train_users": share})


def test_a_drawing_depends_on_the_tokens_alone():
    tokens = np.array(["d", "a", "c", "b"])

    drawn = set(tokens[drawn_by_token(tokens, 0.5)])

    assert drawn == set(tokens[::-1][drawn_by_token(tokens[::-1], 0.5)])
    assert len(drawn) == 2
