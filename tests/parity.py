"""Compare our models with vectors that the authors' code computed.

    python tests/parity.py DIR

DIR holds ``<name>.npz`` with ``<name>.json`` beside it: for every case parameters under the
authors' names, inputs, outputs, loss and gradients, and a description with all settings of the case.
Prints the largest error of each case in float64 and float32 and exits with 0 only if all are within
tolerance.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from recbole.config import Config

from recbole_mm.config.load import load_config
from recbole_mm.data.features import ItemFeatures
from recbole_mm.model.layers.augmentation import drop_items
from recbole_mm.model.layers.interest import dpc_knn
from recbole_mm.model.layers.mamba import CrossLayer, FeedForward, MambaSize, TiSSDLayer
from recbole_mm.model.sequential_recommender.missrec import MISSRec
from recbole_mm.model.sequential_recommender.mmm4rec import MMM4Rec
from recbole_mm.training.optimizers import build_optimizer
from recbole_mm.transfer.authors import rename_missrec, rename_mmm4rec

FLOAT64_LIMIT = 1e-9
OUTPUT_ATOL, OUTPUT_RTOL = 2e-5, 1e-4
GRADIENT_RTOL, GRADIENT_ATOL = 2e-3, 1e-6
LOSS_STEP_LIMIT, PARAMETER_STEP_LIMIT = 2e-5, 5e-5
SINGLE_PARAMETER_LIMIT, FEW_PARAMETERS = 1e-3, 3
DEAD_GRADIENT = 1e-7  # below this a released gradient is rounding noise (case authors_init)
RENAMED = {MISSRec: rename_missrec, MMM4Rec: rename_mmm4rec}
"""From the authors' names of parameters to ours."""
FLOAT32_RATIO = 6.0
"""Largest error of an output in float32, over that of the authors' own float32."""
FFN_NORM_EPS = 1e-12
"""The norm after the authors' feed-forward layer has this eps, whatever ``norm_eps`` is."""


@dataclass
class Report:
    """Errors of one case, each as (error, limit)."""

    case: str
    dtype: str
    entries: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, name: str, error: float, limit: float) -> None:
        worst, _ = self.entries.get(name, (0.0, limit))
        self.entries[name] = (max(error, worst), limit)

    @property
    def holds(self) -> bool:
        return bool(self.entries) and all(e <= limit for e, limit in self.entries.values())

    def __str__(self) -> str:
        errors = "  ".join(f"{name} {error:.1e}" for name, (error, _) in self.entries.items())
        return f"{'ok  ' if self.holds else 'FAIL'} {self.case:32s} {self.dtype:8s} {errors}"


class Vectors:
    """One ``.npz`` with its ``.json``, read case by case."""

    def __init__(self, path: Path):
        with np.load(path, allow_pickle=False) as arrays:
            self.arrays = dict(arrays)
        self.cases = json.loads(path.with_suffix(".json").read_text())["cases"]

    def float32_errors(self, case: str) -> dict[str, float]:
        """Largest errors of the authors' outputs in float32, as far as they are described."""
        return self.cases[case].get("f32_vs_f64", {})

    def section(self, case: str, name: str) -> dict[str, torch.Tensor]:
        prefix = f"{case}/{name}/"
        return {
            key[len(prefix) :]: torch.from_numpy(self.arrays[key])
            for key in self.arrays
            if key.startswith(prefix)
        }


def compare_outputs(report: Report, name: str, ours, theirs, authors: float | None = None) -> None:
    """Relative to the tolerance of the dtype: the limit is 1.

    Args:
        report: to which the error is added.
        name: of the output.
        ours: the output.
        theirs: the authors', in float64.
        authors: largest error of the authors' float32, if it is described.
    """
    error = (ours.detach().double() - theirs.double()).abs()
    if report.dtype == "float64":
        report.add(name, error.max().item(), FLOAT64_LIMIT)
        return
    allowed = OUTPUT_ATOL + OUTPUT_RTOL * theirs.double().abs()
    report.add(name, (error / allowed).max().item(), 1.0)
    if authors:
        report.add("x authors", error.max().item() / authors, FLOAT32_RATIO)


def compare_gradients(report: Report, ours: dict, theirs: dict) -> None:
    """Largest error of any tensor over what is allowed for it: the limit is 1.

    The stored gradients are float32, so float64 is held to the same limit.
    """
    for name, expected in theirs.items():
        largest = expected.abs().max().item()
        if largest <= DEAD_GRADIENT:
            continue
        got = ours.get(name)
        if got is None:
            report.add(f"no gradient for {name}", 1.0, 0.0)
            continue
        error = (got.double() - expected.double()).abs().max().item()
        report.add("gradients", error / (GRADIENT_RTOL * largest + GRADIENT_ATOL), 1.0)


def compare_parameters(report: Report, ours: dict, theirs: dict) -> None:
    """Parameters after training steps.

    An optimizer of Adam's kind divides by the size of the gradient, so a gradient that is zero but
    for rounding moves its element at full speed. The bias of an attention's keys has no other; a
    few single elements may be farther off.
    """
    errors = []
    for name, after in theirs.items():
        error = (ours[name] - after).abs().double()
        if name.endswith("in_proj_bias"):
            error = torch.stack(error.chunk(3))[[0, 2]]  # query and value
        errors.append(error.flatten())
    errors = torch.cat(errors).sort(descending=True).values
    report.add("single parameters", errors[0].item(), SINGLE_PARAMETER_LIMIT)
    report.add("parameters", errors[FEW_PARAMETERS].item(), PARAMETER_STEP_LIMIT)


def described_optimizer(case: dict) -> dict:
    """Our keys for a described optimizer, such as ``NAdam(lr=0.001, ...)``."""
    text = case.get("optimizer")
    if text is None:
        return {}
    values = dict(re.findall(r"(lr|weight_decay)[\s=:]+([-+.\de]+)", text))
    return {
        "learner": re.match(r"\w+", text)[0].lower(),
        "learning_rate": float(values["lr"]),
        "weight_decay": float(values.get("weight_decay", 0)),
        "gradient_accumulation_steps": case.get("accumulation_steps", 1),
        "accumulation_mean": False,
    }


def has_training_steps(case: dict) -> bool:
    return case.get("kind", "").startswith("training steps")


def run_training_steps(
    report: Report, vectors: Vectors, case: str, model, config, batch_of
) -> None:
    """Train without dropout; ``batch_of`` makes a batch of ours from the inputs of a step."""
    rename = RENAMED[type(model)]
    frozen = rename({name: torch.zeros(1) for name in vectors.cases[case].get("frozen", ())})
    for name, parameter in model.eval().named_parameters():
        parameter.requires_grad_(name not in frozen)
    optimizer = build_optimizer(config, model)
    expected, losses = vectors.section(case, "out")["losses"], []
    for step in range(len(expected)):
        optimizer.zero_grad()
        loss = model.calculate_loss(batch_of(vectors.section(case, f"in{step}")))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    if config["gradient_accumulation_steps"] > 1:
        optimizer.flush()
    error = (torch.stack(losses) - expected).abs().max().item()
    report.add("losses", error, LOSS_STEP_LIMIT)
    compare_parameters(report, model.state_dict(), rename(vectors.section(case, "state_after")))


# ---------------------------------------------------------------------------------- MMM4Rec


def mmm4rec_config(case: dict) -> dict:
    """Our configuration of a case."""
    theirs = case["config"]
    return {
        "MAX_ITEM_LIST_LENGTH": theirs["max_len"],
        "use_gpu": False,
        "hidden_size": theirs["hidden_size"],
        "inner_size": ffn_size(theirs),
        "n_layers": theirs["num_layers"],
        "expand": theirs["expand"],
        "head_dim": theirs["head_dim"],
        "d_state": theirs["d_state"],
        "n_groups": theirs["n_groups"],
        "d_conv": theirs["d_conv"],
        "use_time": theirs["is_time"],
        "time_gate_per_position": theirs["p2p_residual"],
        "use_item_id": theirs["is_modality_bias"],
        "item_mm_fusion": theirs["item_mm_fusion"],
        "softmax": "in_batch" if theirs["in_batch_loss"] else "all_rows",
        "temperature": theirs["temperature"],
        "cross_activation": cross_activation(case),
        "layer_norm_eps": theirs["norm_eps"],
        "time_norm_eps": theirs["norm_eps"],
        "embedding_dropout_prob": theirs["embedding_drop_prob"],
        "hidden_dropout_prob": theirs["dropout_prob"],
        "time_dropout_prob": theirs["time_dropout_prob"],
        "ssd_backend": "torch",
        "query_time": "none",
        **described_optimizer(case),
        # groups must not change a result; in training steps one group, so that rounding is alike
        "length_group_size": 2 if case.get("kind") is None else 128,
        "train_stage": "finetune",
        "released": True,
    }


def item_tokens(n_items: int) -> dict[str, list[str]]:
    return {"item_id": [str(item) for item in range(n_items)]}


def ffn_size(theirs: dict) -> int:
    return theirs["inner_size"] if theirs["is_ffn"] else 0


def with_the_authors_ffn_norm(module: torch.nn.Module) -> torch.nn.Module:
    for layer in module.modules():
        if isinstance(layer, FeedForward):
            layer.norm.eps = FFN_NORM_EPS
    return module


def cross_activation(case: dict) -> str:
    """The authors' cross block uses Hardswish unless the heads are a multiple of 8."""
    theirs = case["config"]
    n_heads = theirs["expand"] * theirs["hidden_size"] // theirs["head_dim"]
    return "silu" if case["path"] == "cuda" and n_heads % 8 == 0 else "hardswish"


def build_mmm4rec(vectors: Vectors, case: str, dtype: torch.dtype) -> tuple[MMM4Rec, Config]:
    inputs = vectors.section(case, "in")
    state = vectors.section(case, "state")
    features = {
        "text": with_padding_row(inputs["text"], dtype),
        "image": with_padding_row(inputs["img"], dtype),
    }
    n_items = len(inputs["text"]) + 1
    dataset = SimpleNamespace(
        modalities=list(features),
        features=features,
        has_time=True,
        num=lambda _: n_items,
        field2id_token=item_tokens(n_items),
        item_counts=lambda: torch.ones(n_items),
    )
    config = load_config("MMM4Rec", "vectors", config_dict=mmm4rec_config(vectors.cases[case]))
    model = MMM4Rec(config, dataset).to(dtype)
    model.load_state_dict(rename_mmm4rec(state))
    return with_the_authors_ffn_norm(model), config


def with_padding_row(feature: torch.Tensor, dtype: torch.dtype) -> ItemFeatures:
    padding = torch.zeros(1, feature.shape[1])
    present = torch.arange(len(feature) + 1) > 0
    return ItemFeatures(torch.cat([padding, feature]).to(dtype), present)


def mmm4rec_batch(inputs: dict) -> dict:
    """The released batch with our names; the first padded slot holds the time of the target."""
    lengths, stamps = inputs["item_seq_len"], inputs["timestamps"].double()
    slot = lengths.clamp(max=stamps.shape[1] - 1).unsqueeze(1)
    return {
        "item_id_list": inputs["item_seq"],
        "item_length": lengths,
        "timestamp_list": stamps,
        "timestamp": stamps.gather(1, slot).squeeze(1),
        "item_id": inputs["labels"],
    }


def mmm4rec_gradients(model: MMM4Rec, names) -> dict[str, torch.Tensor]:
    """Our gradients under the authors' names."""
    by_our_name = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    gradients = {}
    for name in names:
        (ours,) = rename_mmm4rec({name: torch.zeros(1, 1, 1)})
        if ours in by_our_name:
            grad = by_our_name[ours]
            gradients[name] = grad.unsqueeze(1) if "conv1d" in name and grad.dim() == 2 else grad
    return gradients


def run_mmm4rec_case(vectors: Vectors, case: str, dtype: torch.dtype) -> Report:
    report = Report(case, str(dtype).removeprefix("torch."))
    model, config = build_mmm4rec(vectors, case, dtype)
    if has_training_steps(vectors.cases[case]):
        run_training_steps(report, vectors, case, model, config, mmm4rec_batch)
        return report
    model.eval()
    expected, authors = vectors.section(case, "out64"), vectors.float32_errors(case)
    batch = mmm4rec_batch(vectors.section(case, "in"))
    with torch.no_grad():
        user, scores = model.encode(batch), model.full_sort_predict(batch)
        compare_outputs(report, "user", user, expected["seq_output"], authors.get("seq_output"))
        compare_outputs(report, "scores", scores, expected["scores"], authors.get("scores"))
        rows = torch.arange(len(batch["item_id"]))
        compare_outputs(
            report, "predict", model.predict(batch), expected["scores"][rows, batch["item_id"]]
        )
    loss = model.calculate_loss(batch)
    compare_outputs(report, "loss", loss, expected["loss"])
    loss.backward()
    theirs = vectors.section(case, "grad")
    compare_gradients(report, mmm4rec_gradients(model, theirs), theirs)
    return report


def run_mmm4rec_layers_case(vectors: Vectors, case: str, dtype: torch.dtype) -> Report:
    """One encoder and one cross layer whose two time signals differ."""
    report = Report(f"layers {case}", str(dtype).removeprefix("torch."))
    theirs = vectors.cases[case]["config"]
    same = ("hidden_size", "expand", "head_dim", "d_state", "n_groups", "d_conv", "norm_eps")
    size = MambaSize(
        **{key: theirs[key] for key in same},
        max_length=theirs["max_len"],
        use_time=theirs["is_time"],
        time_norm_eps=theirs["norm_eps"],
        time_gate_per_position=theirs["p2p_residual"],
        cross_activation=cross_activation(vectors.cases[case]),
    )
    inner_size = ffn_size(theirs)
    layers = torch.nn.ModuleDict(
        {
            "encoder_layers": torch.nn.ModuleList([TiSSDLayer(size, inner_size)]),
            "cross_layers": torch.nn.ModuleDict(
                {"image": torch.nn.ModuleList([CrossLayer(size, inner_size)])}
            ),
        }
    ).to(dtype)
    with_the_authors_ffn_norm(layers)
    layers.load_state_dict(rename_mmm4rec(vectors.section(case, "state")))
    encoder, cross = layers["encoder_layers"][0], layers["cross_layers"]["image"][0]
    given = {k: v.to(dtype).requires_grad_() for k, v in vectors.section(case, "in").items()}
    expected, authors = vectors.section(case, "out64"), vectors.float32_errors(case)

    t, tau_text = encoder.ssd.time_factors(given["tau_text"]) if size.use_time else (None, None)
    text = encoder(given["text"], t)
    t, tau_vision = None, None
    if size.use_time:
        t, tau_vision = cross.time_factors(encoder.ssd, given["tau_vision"], tau_text)
    vision = cross(given["vision"], text, encoder.ssd, t)
    compare_outputs(report, "text", text, expected["text"], authors.get("text"))
    compare_outputs(report, "vision", vision, expected["vision"], authors.get("vision"))
    objective = (vision * given["cot"]).sum()
    if tau_vision is not None:
        compare_outputs(report, "tau_text", tau_text, expected["tau_text"], authors.get("tau_text"))
        compare_outputs(
            report, "tau_vision", tau_vision, expected["tau_vision"], authors.get("tau_vision")
        )
        objective = objective + (tau_vision * given["cot_tau"]).sum()
    objective.backward()
    inputs = {name: given[name].grad for name in vectors.section(case, "gin")}
    compare_gradients(report, inputs, vectors.section(case, "gin"))
    theirs = vectors.section(case, "grad")
    compare_gradients(report, mmm4rec_gradients(layers, theirs), theirs)
    return report


# ---------------------------------------------------------------------------------- MISSRec

MISSREC_MODALITIES = {"text": ["text"], "img": ["image"], "img_text": ["text", "image"]}
FLOAT32_REG_RTOL = 1e-6
AUTHORS_LOOKUP = {"text": "plm_interest_lookup_table", "image": "img_interest_lookup_table"}
AUTHORS_FEATURE = {"text": "text", "image": "img"}


def missrec_config(case: dict) -> dict:
    """Our configuration of a case."""
    theirs = case["config"]
    pretrain = theirs["train_stage"] == "pretrain"
    return {
        "MAX_ITEM_LIST_LENGTH": theirs["MAX_ITEM_LIST_LENGTH"],
        "use_gpu": False,
        "seed": 0,
        **{
            key: theirs[key]
            for key in (
                "n_layers",
                "n_heads",
                "hidden_size",
                "inner_size",
                "hidden_act",
                "hidden_dropout_prob",
                "layer_norm_eps",
                "initializer_range",
                "temperature",
                "seq_mm_fusion",
                "item_mm_fusion",
            )
        },
        "reg_weight": theirs["gamma"],
        "sequence_loss_weight": theirs["lambda"],
        "train_stage": "pretrain" if pretrain else "finetune",
        "softmax": "in_batch" if pretrain else "all_rows",
        "use_item_id": theirs["train_stage"] == "transductive_ft" and theirs["id_type"] == "id",
        "interest_clustering": "kmeans",
        "interest_iterations": 1,
        "recluster_every": 1,
        **{
            key: case[key]
            for key in ("item_drop_coefficient", "item_drop_ratio")
            if case.get(key) is not None
        },
        "word_drop_features": "text_aug" if pretrain else None,
        "length_group_size": 2,
        "released": True,
        **described_optimizer(case),
    }


def build_missrec(vectors: Vectors, case: str, dtype: torch.dtype) -> tuple[MISSRec, Config]:
    inputs = vectors.section(case, "in")
    modalities = MISSREC_MODALITIES[vectors.cases[case]["config"]["modal_type"]]
    values = {m: inputs[AUTHORS_FEATURE[m]] for m in modalities}
    dataset = SimpleNamespace(
        modalities=modalities,
        features={m: ItemFeatures(v, (v != 0).any(dim=1)) for m, v in values.items()},
        num=lambda _: len(inputs["text"]),
        field2id_token=item_tokens(len(inputs["text"])),
        item_counts=lambda: torch.ones(len(inputs["text"])),
        read_features=lambda name: ItemFeatures(inputs[name], None),
    )
    settings = missrec_config(vectors.cases[case])
    n_vectors = len(modalities) * (len(inputs["text"]) - 1)
    settings["interest_ratio"] = (len(inputs["interest_embeddings"]) - 1) / n_vectors
    config = load_config("MISSRec", "vectors", config_dict=settings)
    model = MISSRec(config, dataset)
    state = dict(vectors.section(case, "state"))
    if not model.use_item_id:
        state.pop("item_embedding.weight", None)
    tables = ["interest_embeddings", *(AUTHORS_LOOKUP[m] for m in modalities)]
    model.to(dtype)
    model.load_state_dict(rename_missrec({**state, **{name: inputs[name] for name in tables}}))
    return model, config


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
    model, config = build_missrec(vectors, case, dtype)
    if has_training_steps(vectors.cases[case]):
        run_training_steps(report, vectors, case, model, config, missrec_batch)
        return report
    model.eval()
    expected, inputs = vectors.section(case, "out64"), vectors.section(case, "in")
    authors = vectors.float32_errors(case)
    batch = missrec_batch(inputs)
    with torch.no_grad():
        items, rows = model.embed_batch(batch)
        user, regularizer = model.read(model.view_of(batch, rows), items, regularize=True)
        compare_outputs(report, "user", user, expected["seq_output"], authors.get("seq_output"))
        if dtype == torch.float64:
            compare_outputs(report, "reg", regularizer, expected["reg"])
        else:
            error = (regularizer.double() / expected["reg"] - 1).abs().item()
            report.add("reg", error, FLOAT32_REG_RTOL)
        if "scores" in expected:
            scores = model.full_sort_predict(batch)
            compare_outputs(report, "scores", scores, expected["scores"], authors.get("scores"))
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
    report.add("centroids", error, OUTPUT_ATOL)
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
    "mmm4rec_cases": run_mmm4rec_case,
    "mmm4rec_layers": run_mmm4rec_layers_case,
    "missrec_cases": run_missrec_case,
    "dpc_knn": run_dpc_knn_case,
    "item_drop": run_item_drop_case,
}


def run(folder: Path) -> list[Report]:
    """Every case of every known file in ``folder``, in float64 and float32."""
    reports = []
    for name, run_case in RUNNERS.items():
        path = Path(folder) / f"{name}.npz"
        if not path.is_file():
            continue
        vectors = Vectors(path)
        for case in vectors.cases:
            for dtype in (torch.float64, torch.float32):
                reports.append(run_case(vectors, case, dtype))
    return reports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with <name>.npz and <name>.json")
    reports = run(parser.parse_args().folder)
    print("float32 outputs and all gradients: error / tolerance; float64 outputs: absolute error")
    for report in reports:
        print(report)
    failed = sum(not report.holds for report in reports)
    print(f"{len(reports) - failed} of {len(reports)} hold")
    return 0 if reports and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
