"""Write the part of the authors' vectors that the tests need into tests/golden.

    python tests/select_golden.py DIR

DIR holds the whole vectors. A file listed here loses the cases and sections that are not.
"""

import json
import sys
from pathlib import Path

import numpy as np

SECTIONS = ("state", "state_after", "grad", "out64")
SELECTED = {
    "mmm4rec_cases": (
        "layers2_g8",
        "no_time",
        "dyn_instance",
        "inbatch_dyn_shared_dup",
        "fallback_heads8",
        "train_steps",
    ),
    "mmm4rec_layers": ("g1",),
    "ssd_kernel": ("g1", "g2_heads8", "len1"),
    "missrec_cases": (
        "trans_static_ctx",
        "trans_dinst_add",
        "ind_text_ctx",
        "trans_layers4",
        "pre_itemdrop_dshared_add",
        "pre_worddrop_dshared_ctx_dup",
        "train_steps_full",
    ),
    "dpc_knn": ("n12_weighted", "n60_blobs", "n20_dup", "n10_all"),
    "item_drop": ("a", "b"),
}
# the other float32 outputs are in float64 as well, or not compared
KEPT_OUTPUTS = (
    "core64",
    "y_authors64",
    "y_mamba64",
    "losses",
    "cluster_idx",
    "centroids",
    "item_seq_aug",
    "item_seq_len_aug",
    "intended_item_seq_aug",
)


def is_kept(key: str) -> bool:
    _, section, name = key.split("/", 2)
    return section in SECTIONS or section.startswith("in") or name in KEPT_OUTPUTS


def select(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name, cases in SELECTED.items():
        arrays = np.load(source / f"{name}.npz", allow_pickle=False)
        kept = {k: arrays[k] for k in arrays.files if k.split("/")[0] in cases and is_kept(k)}
        np.savez_compressed(target / f"{name}.npz", **kept)
        info = json.loads((source / f"{name}.json").read_text())
        info["cases"] = {case: info["cases"][case] for case in cases}
        (target / f"{name}.json").write_text(json.dumps(info, indent=1))


if __name__ == "__main__":
    select(Path(sys.argv[1]), Path(__file__).parent / "golden")
