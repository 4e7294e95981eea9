"""Settings with which a model trains in a blink on the ``toy`` data set, and those of a stage."""

TINY = {
    "epochs": 2,
    "hidden_size": 8,
    "inner_size": 8,
    "MAX_ITEM_LIST_LENGTH": 5,
    "train_batch_size": 64,
    "show_progress": False,
}
TINY_HSTU = {key: value for key, value in TINY.items() if key != "inner_size"}
TINY_MMM4REC = {**TINY, "head_dim": 8, "d_state": 4, "n_groups": 1}
PRETRAIN = {"train_stage": "pretrain", "softmax": "in_batch", "use_item_id": False}
