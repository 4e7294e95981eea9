"""What the value of a key has to be."""

from fnmatch import fnmatchcase

from recbole.config import Config

from recbole_mm.config.errors import ConfigError

METRICS_OF_SCORES = ("auc", "gauc", "logloss", "mae", "rmse")
"""RecBole's metrics that have no ``@k``."""

LIMITS = {
    **dict.fromkeys(("MAX_ITEM_LIST_LENGTH", "train_batch_size", "eval_batch_size"), "> 0"),
    **dict.fromkeys(("embedding_size", "feature_dimension", "hidden_size", "head_dim"), "> 0"),
    **dict.fromkeys(("d_conv", "d_state", "expand", "n_groups", "n_heads", "n_layers"), "> 0"),
    **dict.fromkeys(("gradient_accumulation_steps", "interest_iterations"), "> 0"),
    **dict.fromkeys(("interest_neighbors", "learning_rate", "temperature"), "> 0"),
    **dict.fromkeys(("epochs", "inner_size", "length_group_size"), ">= 0"),
    **dict.fromkeys(("ema_epochs", "recluster_every", "weight_decay"), ">= 0"),
    "untrained_id": "in [0, 1]",
    "*dropout*": "in [0, 1)",
    "*_drop_*": "in [0, 1]",
}
"""What a number has to be, by its key or a pattern of keys."""

WHOLE = (
    "MAX_ITEM_LIST_LENGTH", "d_conv", "d_state", "embedding_size", "epochs", "eval_batch_size",
    "eval_step", "feature_dimension", "gradient_accumulation_steps", "head_dim", "hidden_size",
    "inner_size", "interest_iterations", "interest_neighbors", "length_group_size", "n_groups",
    "n_heads", "n_layers", "seed", "stopping_step", "topk", "train_batch_size",
)  # fmt: skip
"""Keys of whole numbers."""

WITHIN = {
    "> 0": lambda x: x > 0,
    ">= 0": lambda x: x >= 0,
    "in [0, 1)": lambda x: 0 <= x < 1,
    "in [0, 1]": lambda x: 0 <= x <= 1,
}


def refuse_text_for_a_number(values: dict, source: str, defaults: dict):
    for key, value in values.items():
        default = defaults.get(key)
        no_number = isinstance(value, str) or value is None
        if no_number and isinstance(default, (bool, int, float)):
            wanted = "True or False" if isinstance(default, bool) else "a number"
            raise ConfigError(
                f"{key!r} in {source} is {value!r}, but it is {wanted}: {default} by default"
            )


def refuse_number_out_of_limits(values: dict, source: str):
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if key in WHOLE and not isinstance(value, int):
            raise ConfigError(f"{key!r} in {source} is {value!r}, but it has to be a whole number")
        for pattern, limit in LIMITS.items():
            if fnmatchcase(key, pattern) and not WITHIN[limit](value):
                raise ConfigError(f"{key!r} in {source} is {value!r}, but it has to be {limit}")


def refuse_malformed_metrics(values: dict):
    """What RecBole would fail at without a word on the key."""

    def listed(key):
        value = values.get(key)
        return list(value) if isinstance(value, (list, tuple)) else [value]

    for key, wanted, good in (
        ("metrics", "a list of names like [Recall, NDCG]", lambda x: isinstance(x, str)),
        ("topk", "a list of whole numbers > 0", lambda x: type(x) is int and x > 0),
        ("valid_metric", "a name like NDCG@10", lambda x: isinstance(x, str)),
    ):
        if key in values and not (listed(key) and all(map(good, listed(key)))):
            raise ConfigError(f"{key!r} is {values[key]!r}, but it has to be {wanted}")


def refuse_unmeasured_valid_metric(config: Config):
    """RecBole would find out after the first epoch."""
    name, _, k = str(config["valid_metric"]).lower().partition("@")
    topk = config["topk"] if isinstance(config["topk"], (list, tuple)) else [config["topk"]]
    metrics = [metric.lower() for metric in config["metrics"]]
    of_lists = name not in METRICS_OF_SCORES
    if name not in metrics or (k not in map(str, topk) if of_lists else k):
        raise ConfigError(
            f"valid_metric {config['valid_metric']!r} is not measured: metrics are "
            f"{config['metrics']} at topk {list(topk)}; add it there or choose one of these"
        )
