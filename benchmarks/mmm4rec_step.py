"""Milliseconds per step of MMM4Rec at the released sizes, beside a plain forward pass.

    python benchmarks/mmm4rec_step.py [--threads 2] [--items 4899] [--steps 5] [--cpu]

Batch 1024, L 20, D 256, 8 heads and groups, two modalities of 768 features, with ID, full softmax,
dropout 0.4, float32; two thirds of the positions are padding. The plain reference computes the
same function on whole padded batches: features projected per position, every position through every
layer, depthwise convolutions by ``conv1d``. For the authors' own code 3.6 s a training step and
1.0 s an evaluation batch were measured on two quiet cores with 205 to 230 GFLOP/s.
"""

import torch
import torch.nn.functional as F
from synthetic import (
    alternating_milliseconds,
    benchmark_arguments,
    matrix_product_rate,
    model_settings,
    print_table,
    random_batch,
    random_dataset,
    training_step,
)
from torch import nn

from recbole_mm.model.sequential_recommender.mmm4rec import MMM4Rec
from recbole_mm.tools.memory import keep_freed_memory

WIDTH = 768
REAL_SHARE = 1 / 3


class Plain(nn.Module):
    """The parameters of a model in a straightforward forward pass."""

    def __init__(self, model: MMM4Rec):
        super().__init__()
        self.model = model

    def item(self, m, ids):
        model = self.model
        return model.adapters[m](model.feature(m)[ids].float()) + model.item_embeddings[m][ids]

    def user(self, batch):
        model, ids = self.model, batch["item_id_list"]
        t = model._time_factors(batch)
        e, v = (
            model.input_norms[m](F.dropout(self.item(m, ids), 0.4, model.training))
            for m in model.modalities
        )
        for depth, layer in enumerate(model.encoder_layers):
            e = layer(e, t["text", depth])
            v = model.cross_layers["image"][depth](v, e, layer.ssd, t["image", depth])
        return v[torch.arange(len(v)), batch["item_length"] - 1]

    def full_sort_predict(self, batch):
        ids = torch.arange(self.model.n_items)
        user = self.user(batch)
        return (
            sum(user @ F.normalize(self.item(m, ids), dim=-1).T for m in self.model.modalities)
            / self.model.temperature
        )

    def calculate_loss(self, batch):
        return F.cross_entropy(self.full_sort_predict(batch)[:, 1:], batch["item_id"] - 1)


def depthwise_conv1d(x, weight, bias, before=None):
    x = x if before is None else x + before
    padded = F.pad(x.mT, (weight.shape[1] - 1, 0))
    return F.conv1d(padded, weight.unsqueeze(1), bias, groups=len(bias)).mT


def plain_copy(model: MMM4Rec, settings, dataset) -> Plain:
    copy = MMM4Rec(settings, dataset)
    copy.load_state_dict(model.state_dict())
    for module in copy.modules():
        if hasattr(module, "convolve"):
            module.convolve = depthwise_conv1d
    return Plain(copy)


def main():
    arguments = benchmark_arguments(__doc__.splitlines()[0], items=4899)
    keep_freed_memory()
    settings = model_settings("MMM4Rec", use_time=True, use_item_id=True)
    dataset = random_dataset(arguments.items, WIDTH)
    model = MMM4Rec(settings, dataset)
    plain = plain_copy(model, settings, dataset)
    batches = [
        random_batch(1024, arguments.items, settings["MAX_ITEM_LIST_LENGTH"], REAL_SHARE)
        for _ in range(arguments.steps + 1)
    ]
    results = {}
    steps = [training_step(m, torch.optim.NAdam) for m in (model, plain)]
    results["training (1024)"] = alternating_milliseconds(steps, batches, arguments.clock)
    model.eval(), plain.eval()
    with torch.no_grad():
        difference = (model.full_sort_predict(batches[0]) - plain_scores(model, batches[0])).abs()
        print(f"largest difference of scores from the plain pass: {difference.max():.1e}")
        evaluations = [model.full_sort_predict, plain.full_sort_predict]
        results["evaluation (1024)"] = alternating_milliseconds(
            evaluations, batches, arguments.clock
        )
    print_table("MMM4Rec", results)
    print(f"{matrix_product_rate():.0f} GFLOP/s of float32 matrix product on this machine")


def plain_scores(model, batch):
    """The plain pass over the very parameters of ``model``."""
    return Plain(model).full_sort_predict(batch)


if __name__ == "__main__":
    main()
