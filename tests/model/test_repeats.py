"""The propensity to repeat is learned from data that consist of repeats, or of none."""

import pytest
import torch
from tiny import TINY

from recbole_mm.config.load import load_config
from recbole_mm.run.run import Run

SMALL = {
    "MMM4Rec": {"head_dim": 8, "d_state": 4, "n_groups": 2, "use_time": False},
    "MISSRec": {"n_heads": 2},
    "UniSRec": {"n_heads": 2, "n_experts": 2},
    "SASRecPlus": {"n_heads": 2},
    "HSTU": {"n_heads": 2},
}


def trained(toy, model, rows, **settings):
    """A model trained on users' sequences of items, and a test batch."""
    path = f"{toy['data_path']}/toy/toy.inter"
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [
        f"u{user}\ti{item}\t{step}"
        for user, items in enumerate(rows)
        for step, item in enumerate(items)
    ]
    with open(path, "w") as file:
        file.write("\n".join(lines) + "\n")
    given = {**toy, **TINY, **SMALL[model], "epochs": 12, "ema_epochs": 0, "learning_rate": 0.03}
    run = Run(load_config(model, config_dict={**given, "stopping_step": 99, **settings}))
    run.train(saved=False, verbose=False)
    run.model.eval()
    return run.model, next(iter(run.splits.test))[0]


def share_of_history_in_the_first_three(model, batch):
    with torch.no_grad():
        top = model.full_sort_predict(batch).topk(3, dim=1).indices
    seen = (top.unsqueeze(2) == batch["item_id_list"].unsqueeze(1)).any(dim=2)
    return seen.float().mean().item()


@pytest.mark.parametrize("model", SMALL)
def test_a_history_leaves_the_ranking_where_nobody_repeats_an_item(toy, model):
    torch.manual_seed(0)
    rows = [torch.randperm(12)[:7].tolist() for _ in range(60)]

    learned, batch = trained(toy, model, rows, repeat_propensity="shared")

    assert learned.repeats.weight.item() < -0.1
    assert share_of_history_in_the_first_three(learned, batch) < 0.05


@pytest.mark.parametrize("model", ["SASRecPlus", "MMM4Rec", "UniSRec"])
@pytest.mark.parametrize("positions", ["last", "all"])
def test_the_recency_of_a_repeat_is_learned(toy, model, positions):
    torch.manual_seed(0)
    rows = []
    for _ in range(60):  # the item before the last comes again, half of the time
        items = torch.randint(12, (2,)).tolist()
        for other in torch.randint(12, (5,)).tolist():
            items.append(items[-2] if torch.rand(()) < 0.5 else other)
        rows.append(items)

    learned, _ = trained(toy, model, rows, repeat_propensity="recency", loss_positions=positions)

    assert learned.repeats.weight[:3].argmax() == 1
    assert learned.repeats.weight[1] > 0


def test_repeats_and_a_softmax_over_the_batch_are_refused_together(toy):
    with pytest.raises(
        ValueError, match="repeat_propensity: shared does not work with softmax: in_b"
    ):
        trained(toy, "UniSRec", [[1, 2, 3, 4]] * 3, repeat_propensity="shared", softmax="in_batch")
