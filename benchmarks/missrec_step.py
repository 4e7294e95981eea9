"""Milliseconds per step of MISSRec at the released sizes, beside a plain torch.nn.Transformer.

    python benchmarks/missrec_step.py [--threads 2] [--items 4899] [--steps 5] [--cpu]

Batch 512 (evaluation 1024), L 50, D 300, inner 256, 1 + 1 layers, 4 heads, two modalities of 512
features, with ID, dynamic_shared, full softmax, dropout 0.5, float32; 86% of the positions are
padding. The plain reference computes the same function on whole padded batches: every position
through encoder and decoder, features projected per position, interests by a loop over users.
"""

import argparse
import time
from types import SimpleNamespace

import torch
import torch.nn.functional as F
import yaml
from torch import nn

from recbole_mm.config import properties_dir
from recbole_mm.data.features import ItemFeatures
from recbole_mm.model.sequential_recommender.missrec import MISSRec

WIDTH = 512
RECBOLE = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "item_length",
    "NEG_PREFIX": "neg_",
    "device": torch.device("cpu"),
    "dataset": "random",
    "seed": 0,
}


class Settings(dict):
    def __missing__(self, key):
        return None


def released_settings(**changes) -> Settings:
    text = (properties_dir() / "model" / "MISSRec.yaml").read_text(encoding="utf-8")
    settings = {k: _number(v) for k, v in yaml.safe_load(text).items()}
    return Settings({**RECBOLE, **settings, **changes})


def _number(value):
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def random_dataset(n_items: int) -> SimpleNamespace:
    features = {}
    for name in ("text", "image"):
        values = torch.randn(n_items, WIDTH) * 0.05
        values[0] = 0
        present = torch.arange(n_items) > 0
        features[name] = ItemFeatures(values, present)
    return SimpleNamespace(modalities=list(features), features=features, num=lambda _: n_items)


def random_batch(rows: int, n_items: int, length: int) -> dict:
    """Geometric lengths of which 86% of the positions are padding at L 50, as on Amazon data."""
    mean = 0.14 * length
    lengths = torch.empty(rows).geometric_(1 / mean).clamp(max=length).long()
    item_seq = torch.randint(1, n_items, (rows, length))
    item_seq[torch.arange(length) >= lengths.unsqueeze(1)] = 0
    target = torch.randint(1, n_items, (rows,))
    return {"item_id_list": item_seq, "item_length": lengths, "item_id": target}


class Plain(nn.Module):
    """MISSRec's parameters in a straightforward forward pass."""

    def __init__(self, model: MISSRec, settings: Settings):
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


def milliseconds(step, batches, clock) -> float:
    step(batches[0])
    start = clock()
    for batch in batches[1:]:
        step(batch)
    return (clock() - start) / (len(batches) - 1) * 1000


def trainer(module):
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-3)

    def step(batch):
        optimizer.zero_grad()
        module.calculate_loss(batch).backward()
        optimizer.step()

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--items", type=int, default=4899, help="item table, padding included")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="CPU time of the process: for a machine that is not quiet",
    )
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu else time.perf_counter
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    settings = released_settings()
    model = MISSRec(settings, random_dataset(arguments.items))
    start = clock()
    model.update_interests()
    cold = clock() - start
    start = clock()
    model.update_interests()
    warm = clock() - start
    print(f"clustering {cold:.2f} s the first time, {warm:.2f} s from the last clusters")
    plain = Plain(model, settings)
    length = settings["MAX_ITEM_LIST_LENGTH"]
    train = [random_batch(512, arguments.items, length) for _ in range(arguments.steps + 1)]
    users = [random_batch(1024, arguments.items, length) for _ in range(arguments.steps + 1)]

    results = {"training": [milliseconds(trainer(m), train, clock) for m in (model, plain)]}
    for module in (model.transformer, model.position_embedding, plain.transformer):
        module.requires_grad_(False)
    results["frozen encoder"] = [milliseconds(trainer(m), train, clock) for m in (model, plain)]
    model.eval(), plain.eval()
    with torch.no_grad():
        results["evaluation"] = [
            milliseconds(m.full_sort_predict, users, clock) for m in (model, plain)
        ]
    print(f"{'ms per step':16s} {'MISSRec':>9s} {'plain':>9s} {'ratio':>6s}")
    for name, (ours, theirs) in results.items():
        print(f"{name:16s} {ours:9.0f} {theirs:9.0f} {theirs / ours:6.1f}")


if __name__ == "__main__":
    main()
