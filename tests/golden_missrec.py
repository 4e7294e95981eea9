"""MISSRec's half of tests/parity.py."""

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from parity import (
    LOSS_STEP_LIMIT,
    PARAMETER_STEP_LIMIT,
    ReadOnce,
    Report,
    Vectors,
    compare_gradients,
    compare_outputs,
)

from recbole_mm.authors import rename_missrec
from recbole_mm.data.features import ItemFeatures
from recbole_mm.model.layers.augmentation import drop_items
from recbole_mm.model.layers.interest import dpc_knn
from recbole_mm.model.sequential_recommender.missrec import MISSRec

MISSREC_MODALITIES = {"text": ["text"], "img": ["image"], "img_text": ["text", "image"]}
FLOAT32_REG_RTOL = 1e-6
AUTHORS_LOOKUP = {"text": "plm_interest_lookup_table", "image": "img_interest_lookup_table"}
AUTHORS_FEATURE = {"text": "text", "image": "img"}


def missrec_config(case: dict) -> dict:
    """Our configuration of a case that is described in the authors' words."""
    theirs = case["config"]
    pretrain = theirs["train_stage"] == "pretrain"
    return {
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "TIME_FIELD": "timestamp",
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "NEG_PREFIX": "neg_",
        "MAX_ITEM_LIST_LENGTH": theirs["MAX_ITEM_LIST_LENGTH"],
        "dataset": "vectors",
        "device": torch.device("cpu"),
        "seed": 0,
        **{
            key: theirs[key]
            for key in (
                "n_layers",
                "n_heads",
                "hidden_size",
                "inner_size",
                "hidden_act",
                "layer_norm_eps",
                "initializer_range",
                "temperature",
                "seq_mm_fusion",
                "item_mm_fusion",
            )
        },
        "hidden_dropout_prob": 0.0,
        "reg_weight": theirs["gamma"],
        "sequence_loss_weight": theirs["lambda"],
        "train_stage": "pretrain" if pretrain else "finetune",
        "softmax": "in_batch" if pretrain else "full",
        "use_item_id": theirs["train_stage"] == "transductive_ft" and theirs["id_type"] == "id",
        "interest_clustering": "kmeans",
        "interest_iterations": 1,
        "recluster_every": 1,
        "item_drop_coefficient": case.get("item_drop_coefficient"),
        "item_drop_ratio": case.get("item_drop_ratio"),
        "word_drop_features": "text_aug" if pretrain else None,
        "length_group_size": 2,
        "released": True,
    }


def build_missrec(vectors: Vectors, case: str, dtype: torch.dtype) -> MISSRec:
    inputs = vectors.section(case, "in")
    modalities = MISSREC_MODALITIES[vectors.cases[case]["config"]["modal_type"]]
    values = {m: inputs[AUTHORS_FEATURE[m]] for m in modalities}
    dataset = SimpleNamespace(
        modalities=modalities,
        features={m: ItemFeatures(v, (v != 0).any(dim=1)) for m, v in values.items()},
        num=lambda _: len(inputs["text"]),
        read_features=lambda name: ItemFeatures(inputs[name], None),
    )
    config = missrec_config(vectors.cases[case])
    n_vectors = len(modalities) * (len(inputs["text"]) - 1)
    config["interest_ratio"] = (len(inputs["interest_embeddings"]) - 1) / n_vectors
    model = MISSRec(ReadOnce(config), dataset)
    state = dict(vectors.section(case, "state"))
    if not model.use_item_id:
        state.pop("item_embedding.weight", None)
    tables = ["interest_embeddings", *(AUTHORS_LOOKUP[m] for m in modalities)]
    model.to(dtype)
    model.load_state_dict(rename_missrec({**state, **{name: inputs[name] for name in tables}}))
    return model


def missrec_batch(inputs: dict) -> dict:
    return {
        "item_id_list": inputs["item_seq"],
        "item_length": inputs["item_seq_len"],
        "item_id": inputs["labels"],
    }


def missrec_gradients(model: MISSRec, names) -> dict[str, torch.Tensor]:
    """Our gradients under the authors' names."""
    ours = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    renamed = {name: next(iter(rename_missrec({name: torch.zeros(1)}))) for name in names}
    return {name: ours[own] for name, own in renamed.items() if own in ours}


def run_missrec_case(vectors: Vectors, case: str, dtype: torch.dtype) -> Report:
    report = Report(case, str(dtype).removeprefix("torch."))
    model = build_missrec(vectors, case, dtype)
    if vectors.cases[case].get("kind", "").startswith("training steps"):
        run_missrec_steps(report, vectors, case, model)
        return report
    model.eval()
    expected, inputs = vectors.section(case, "out64"), vectors.section(case, "in")
    batch = missrec_batch(inputs)
    with torch.no_grad():
        items, rows = model.embed_batch(batch)
        user, regularizer = model.read(model.view_of(batch, rows), items, regularize=True)
        compare_outputs(report, "user", user, expected["seq_output"])
        if dtype == torch.float64:
            compare_outputs(report, "reg", regularizer, expected["reg"])
        else:
            error = (regularizer.double() / expected["reg"] - 1).abs().item()
            report.add("reg", error, FLOAT32_REG_RTOL)
        if "scores" in expected:
            compare_outputs(report, "scores", model.full_sort_predict(batch), expected["scores"])
            rows = torch.arange(len(batch["item_id"]))
            compare_outputs(
                report, "predict", model.predict(batch), expected["scores"][rows, batch["item_id"]]
            )
    if "keep_mask" in inputs:
        drop = ~inputs["keep_mask"]
        if vectors.cases[case]["item_drop_coefficient"]:
            model.augment = lambda view: model.with_items_dropped(view, drop)
        else:
            model.augment = lambda view: view._replace(feature_drop=drop)
    loss = model.calculate_loss(batch)
    compare_outputs(report, "loss", loss, expected["loss"])
    loss.backward()
    theirs = vectors.section(case, "grad")
    compare_gradients(report, missrec_gradients(model, theirs), theirs)
    return report


def run_missrec_steps(report: Report, vectors: Vectors, case: str, model: MISSRec) -> None:
    frozen = rename_missrec({n: torch.zeros(1) for n in vectors.cases[case]["frozen"]})
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.001)
    losses = []
    expected = vectors.section(case, "out")["losses"]
    for i in range(len(expected)):
        optimizer.zero_grad()
        loss = model.calculate_loss(missrec_batch(vectors.section(case, f"in{i}")))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    report.add("losses", (torch.stack(losses) - expected).abs().max().item(), LOSS_STEP_LIMIT)
    state = model.state_dict()
    for name, after in rename_missrec(vectors.section(case, "state_after")).items():
        error = (state[name] - after).abs()
        if name.endswith("in_proj_bias"):  # the keys' bias has no gradient but rounding noise
            error[model.hidden_size : 2 * model.hidden_size] = 0
        report.add("parameters", error.max().item(), PARAMETER_STEP_LIMIT)


def run_dpc_knn_case(vectors: Vectors, case: str, dtype: torch.dtype) -> Report:
    report = Report(case, str(dtype).removeprefix("torch."))
    inputs, expected = vectors.section(case, "in"), vectors.section(case, "out")
    info = vectors.cases[case]
    centroids, assignment = dpc_knn(
        inputs["tokens"].to(dtype),
        info["cluster_num"],
        n_neighbors=info["local_size"],
        weight=inputs.get("token_weight"),
    )
    report.add("assignment", float((assignment != expected["cluster_idx"]).sum()), 0.0)
    error = (centroids.double() - expected["centroids"].double()).abs().max().item()
    report.add("centroids", error, 1e-5)
    return report


def run_item_drop_case(vectors: Vectors, case: str, dtype: torch.dtype) -> Report:
    report = Report(case, str(dtype).removeprefix("torch."))
    inputs, expected = vectors.section(case, "in"), vectors.section(case, "out")
    history = inputs["item_seq"], inputs["item_seq_len"], inputs["keep_mask"]
    for name, released in (("intended_item_seq_aug", False), ("item_seq_aug", True)):
        item_seq, length = drop_items(*history, released=released)
        report.add(name, float((item_seq != expected[name]).sum()), 0.0)
        report.add("length", float((length != expected["item_seq_len_aug"]).sum()), 0.0)
    return report


RUNNERS = {
    "missrec_cases": run_missrec_case,
    "dpc_knn": run_dpc_knn_case,
    "item_drop": run_item_drop_case,
}


def run(folder, dtype) -> list[Report]:
    reports = []
    for name, run_case in RUNNERS.items():
        path = Path(folder) / f"{name}.npz"
        if path.is_file():
            vectors = Vectors(path)
            reports += [run_case(vectors, case, dtype) for case in vectors.cases]
    return reports


if __name__ == "__main__":
    for d in (torch.float64, torch.float32):
        for r in run(sys.argv[1], d):
            print(r)
