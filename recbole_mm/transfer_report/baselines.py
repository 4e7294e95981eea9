"""Baselines on a target without training: popularity, and neighbors by each modality."""

from recbole.utils.argument_list import dataset_arguments

from recbole_mm.config.load import RunConfig, load_config
from recbole_mm.config.plain import config_to_plain

POPULARITY = "popularity"
COMMON_KEYS = (
    *dataset_arguments, "benchmark_filename", "checkpoint_dir", "data_cache", "data_path", "domains",
    "encoding", "eval_args", "eval_batch_size", "exclude_users_of", "feature_path", "gpu_id",
    "held_out_domains", "held_out_items", "metrics", "min_feature_coverage", "same_domain_candidates",
    "seed", "show_progress", "tie_order", "topk", "train_users", "use_gpu", "valid_metric",
)  # fmt: skip
"""Keys that decide what a model is trained and tested on."""


def baseline_configs(config, modalities: list[str]) -> dict[str, RunConfig]:
    """The configurations of the baselines, by name.

    Args:
        config: configuration of a model on the target.
        modalities: modalities of that model; each gives the nearest neighbors of the last items of
            a history.
    """
    plain = config_to_plain(config)
    common = {key: plain[key] for key in COMMON_KEYS if key in plain}
    common["tracker"] = "none"
    dataset = config["dataset"]
    configs = {POPULARITY: load_config("Popularity", dataset, (), common)}
    for name in modalities:
        neighbors = {**common, "feature_share": 1.0, "modalities": [name]}
        configs[f"{name} neighbors"] = load_config("TransitionGraph", dataset, (), neighbors)
    return configs
