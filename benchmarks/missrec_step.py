"""Milliseconds per step of MISSRec at the released sizes, beside a plain torch.nn.Transformer.

    python benchmarks/missrec_step.py [--threads 2] [--items 4899] [--steps 5] [--cpu]

Batch 512 (evaluation 1024), L 50, D 300, inner 256, 1 + 1 layers, 4 heads, two modalities of 512
features, with ID, dynamic_shared, full softmax, dropout 0.5, float32; 86% of the positions are
padding. The plain reference computes the same function on whole padded batches: every position
through encoder and decoder, features projected per position, interests by a loop over users.
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

from recbole_mm.model.sequential_recommender.missrec import MISSRec
from recbole_mm.tools.memory import keep_freed_memory

WIDTH = 512
REAL_SHARE = 0.14


class Plain(nn.Module):
    """MISSRec's parameters in a straightforward forward pass."""

    def __init__(self, model: MISSRec, settings):
        super().__init__()
        self.model = model
        self.transformer = nn.Transformer(
            settings["hidden_size"],
            settings["n_heads"],
            settings["n_layers"] // 2,
            settings["n_layers"] // 2,
            settings["inner_size"],
            settings["hidden_dropout_prob"],
            "gelu",
            layer_norm_eps=settings["layer_norm_eps"],
            batch_first=True,
        )
        self.transformer.load_state_dict(model.transformer.state_dict())

    def user(self, batch):
        model, item_seq = self.model, batch["item_id_list"]
        ids = model.interests.of_items(*[item_seq] * len(model.modalities))
        ids = [row.unique() for row in ids]
        ids = nn.utils.rnn.pad_sequence(ids, batch_first=True)
        memory = self.transformer.encoder(
            F.embedding(ids, model.interests.embeddings), src_key_padding_mask=ids == 0
        )
        x = sum(model.adapters[m](model.feature(m)[item_seq]) for m in model.modalities)
        x = x + model.position_embedding.weight[: item_seq.shape[1]]
        x = model.input_dropout(model.input_norm(x + model.item_embedding(item_seq)))
        y = self.transformer.decoder(
            x, memory, tgt_key_padding_mask=item_seq == 0, memory_key_padding_mask=ids == 0
        )
        last = y[torch.arange(len(y)), batch["item_length"] - 1]
        share = (ids > 0).float().mean(1)[:, None, None]
        regularizer = (memory * share).sum(1).square().sum() / memory.shape[-1]
        return F.normalize(last, dim=-1), regularizer

    def scores(self, user):
        model = self.model
        cosines = torch.stack(
            [
                user @ F.normalize(model.adapters[m](model.feature(m)), dim=-1).T
                for m in model.modalities
            ],
            dim=-1,
        )
        fused = (cosines * (cosines * model.fusion.factor).softmax(-1)).sum(-1)
        by_id = user @ F.normalize(model.item_embedding.weight, dim=-1).T
        return (by_id + 2 * fused) / 3 / model.temperature

    def calculate_loss(self, batch):
        user, regularizer = self.user(batch)
        loss = F.cross_entropy(self.scores(user)[:, 1:], batch["item_id"] - 1)
        return loss + self.model.reg_weight * regularizer

    def full_sort_predict(self, batch):
        return self.scores(self.user(batch)[0])


def main():
    arguments = benchmark_arguments(__doc__.splitlines()[0], items=4899)
    clock = arguments.clock
    keep_freed_memory()
    settings = model_settings("MISSRec", reg_counts_padding=True)  # as the authors
    model = MISSRec(settings, random_dataset(arguments.items, WIDTH))
    seconds = []
    for _ in range(2):
        start = clock()
        model.update_interests()
        seconds.append(clock() - start)
    print("clustering {:.2f} s the first time, {:.2f} s from the last clusters".format(*seconds))
    plain = Plain(model, settings)

    def batches(rows):
        length = settings["MAX_ITEM_LIST_LENGTH"]
        shape = rows, arguments.items, length, REAL_SHARE
        return [random_batch(*shape) for _ in range(arguments.steps + 1)]

    def train():
        steps = [training_step(module, torch.optim.Adam) for module in (model, plain)]
        return alternating_milliseconds(steps, batches(512), clock)

    results = {"training (512)": train()}
    for module in (model.transformer, model.position_embedding, plain.transformer):
        module.requires_grad_(False)
    results["frozen encoder (512)"] = train()
    model.eval(), plain.eval()
    with torch.no_grad():
        evaluations = [model.full_sort_predict, plain.full_sort_predict]
        results["evaluation (1024)"] = alternating_milliseconds(evaluations, batches(1024), clock)
    print_table("MISSRec", results)
    print(f"{matrix_product_rate():.0f} GFLOP/s of float32 matrix product on this machine")


if __name__ == "__main__":
    main()
