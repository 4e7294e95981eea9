"""Requirements of RecBole's models on data and other keys, which RecBole checks too late or
never."""

from pathlib import Path

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.models import needs_item_columns
from recbole_mm.tools.errors import UserError

LISTS_OF_CANDIDATES = ("reranker_CAN_NUM",)
"""Keys for the number of best items that a model reranks: numbers separated by commas."""


def refuse_unfit_data(config, dataset) -> None:
    """Check a data set before the model is created.

    Raises:
        UserError: columns that the model reads are not loaded, labels that the evaluation needs do
            not exist, or the model would rerank more items than there are.
    """
    _refuse_missing_columns(config, dataset)
    _refuse_missing_labels(config, dataset)
    for key in LISTS_OF_CANDIDATES:
        sizes = [int(size) for size in str(config[key] or 0).split(",")]
        if max(sizes) >= dataset.item_num:
            raise UserError(
                f"{key}: {config[key]}: {config['model']} would rerank more items than the "
                f"{dataset.item_num - 1} of data set {config['dataset']!r}; give smaller numbers"
            )


def refuse_unfit_stage(config) -> None:
    """Check the stage of S3Rec, the RecBole model with its own stages.

    Raises:
        ConfigError: the stage is fine-tuning and no checkpoint is named, or the file does not
            exist.
    """
    if config["model"] != "S3Rec" or config["train_stage"] != "finetune":
        return
    path = config["pre_model_path"]
    if not path or not Path(path).is_file():
        what = "is empty" if not path else f"{str(path)!r} does not exist"
        raise ConfigError(
            f"S3Rec with train_stage: finetune starts from a checkpoint, but pre_model_path {what}: "
            f"give the one that --train_stage=pretrain wrote"
        )


def _refuse_missing_columns(config, dataset) -> None:
    columns = {}
    if needs_item_columns(config["model"]):
        columns["selected_features"] = config["selected_features"] or []
    if config["model"] == "S3Rec":
        columns["item_attribute"] = [config["item_attribute"]]
    for key, fields in columns.items():
        for field in fields:
            if field not in dataset.field2type:
                raise UserError(
                    f"{config['model']} reads the column {field!r} of the items ({key}), which is "
                    f"not loaded from data set {config['dataset']!r}. Name columns of its .item file "
                    f"in {key} and in load_col: {{item: [item_id, ...]}}"
                )


def _refuse_missing_labels(config, dataset) -> None:
    mode, label = config["eval_args"]["mode"], config["LABEL_FIELD"]
    labeled = "labeled" in (mode.values() if isinstance(mode, dict) else [mode])
    if labeled and label not in dataset.field2type:
        raise UserError(
            f"eval_args: mode: labeled needs labels, but data set {config['dataset']!r} has no column "
            f"{label!r} (LABEL_FIELD): load it with load_col, or derive it from another column "
            f"with threshold: {{rating: 3}}"
        )
