"""The stages that a file lists, or that a list of domains expands to.

With ``leave_one_out_domains: [A, B, C]``, the stages are run once for each domain: the pretrain
stages on all other domains, the finetune stages on this one::

    model: MMM4Rec
    modalities: [text]
    leave_one_out_domains: [A, B, C]
    stages:
      - {train_stage: pretrain, softmax: in_batch, use_item_id: False}
      - {train_stage: finetune}
"""

import reprlib

from recbole_mm.config.errors import ConfigError

EXCLUDE = "exclude_users_of"
TARGETS = "targets"
"""Value of :data:`EXCLUDE` in a pretrain stage that stands for the data sets of the finetune
stages."""

LEAVE_ONE_OUT = "leave_one_out_domains"
NAME = "all_but_{}"
"""Name of the mixture of all other domains."""

SET_BY_DOMAINS = ("dataset", "domains")
"""Keys that stages get from :data:`LEAVE_ONE_OUT`."""


def stage_overlays(common: dict) -> list[dict]:
    """The overlay of each stage, in order.

    Args:
        common: values of the files, the program and the command line, including ``stages``.

    Raises:
        ConfigError: ``stages`` is not a list of mappings; the list of domains does not have two or
            more names; or, with such a list, the stages name their own data or do not include both
            pre-training and fine-tuning.
    """
    overlays = common.get("stages")
    if not isinstance(overlays, list) or not overlays:
        raise ConfigError(f"`stages:` must be a list of overlays, not {reprlib.repr(overlays)}")
    if not all(isinstance(overlay, dict) for overlay in overlays):
        raise ConfigError("`stages:` must be a list of mappings like {train_stage: ...}")
    if common.get(EXCLUDE) == TARGETS:
        raise ConfigError(
            f"{EXCLUDE}: {TARGETS} belongs in a pretrain stage of `stages:`, not outside `stages:`"
        )
    domains = common.get(LEAVE_ONE_OUT)
    if domains is None:
        return _without_users_of_targets(overlays, common)
    _refuse_wrong_domains(domains)
    _refuse_unfit_stages(overlays, common)
    rounds = [[_placed(overlay, target, domains) for overlay in overlays] for target in domains]
    return [o for placed in rounds for o in _without_users_of_targets(placed, common)]


def _without_users_of_targets(overlays: list[dict], common: dict) -> list[dict]:
    """Replace :data:`TARGETS` in the stages by the names of the data sets it stands for."""
    finetuned = [overlay for overlay in overlays if overlay.get("train_stage") == "finetune"]
    names = [name for overlay in finetuned for name in _data_sets({**common, **overlay})]
    targets = list(dict.fromkeys(names))
    changed = []
    for overlay in overlays:
        if overlay.get(EXCLUDE) == TARGETS:
            if overlay.get("train_stage") != "pretrain" or not targets:
                raise ConfigError(
                    f"{EXCLUDE}: {TARGETS} stands for the data sets of the finetune stages, in a "
                    f"pretrain stage: name data sets instead, e.g. [ToysGames]"
                )
            _refuse_target_as_source({**common, **overlay}, targets)
            overlay = {**overlay, EXCLUDE: targets}
        changed.append(overlay)
    return changed


def _data_sets(stage: dict) -> list[str]:
    """The data sets of a stage: its domains, if listed, else the named data set, if any."""
    names = stage.get("domains") or stage.get("dataset") or []
    names = names if isinstance(names, list) else [names]
    return [str(name) for name in names if isinstance(name, (str, int))]


def _refuse_target_as_source(pretraining: dict, targets: list[str]) -> None:
    """Refuse a pre-training that would exclude the users of its own data."""
    sources = _data_sets(pretraining)
    both = [target for target in targets if target in sources]
    if not both:
        return
    what, fix = "the data set of the pre-training", "pre-train on another one"
    if pretraining.get("domains"):
        what = f"a domain of {pretraining.get('dataset')}, the pre-training mixture"
        fix = f"remove {both[0]} from the domains"
    raise ConfigError(
        f"{EXCLUDE}: {TARGETS}: the target {both[0]} is {what}, so its users cannot be excluded: "
        f"{fix}, or name other data sets in {EXCLUDE}"
    )


def _placed(overlay: dict, target: str, domains: list[str]) -> dict:
    """A stage of the round that leaves ``target`` out of the pre-training."""
    if overlay["train_stage"] == "finetune":
        return {**overlay, "dataset": target}
    others = [domain for domain in domains if domain != target]
    if len(others) == 1:
        return {**overlay, "dataset": others[0]}
    return {**overlay, "dataset": NAME.format(target), "domains": others}


def _refuse_wrong_domains(domains) -> None:
    names = isinstance(domains, list) and all(isinstance(name, str) and name for name in domains)
    if not names or len(set(domains)) < max(2, len(domains)):
        raise ConfigError(
            f"{LEAVE_ONE_OUT}: {reprlib.repr(domains)} must be a list of two or more different data "
            f"sets, e.g. [Food, Home, CDs]"
        )


def _refuse_unfit_stages(overlays: list[dict], common: dict) -> None:
    kinds = [overlay.get("train_stage") for overlay in overlays]
    if set(kinds) != {"pretrain", "finetune"}:
        raise ConfigError(
            f"{LEAVE_ONE_OUT} needs stages of both kinds, and no others: {{train_stage: pretrain, "
            f"...}} and {{train_stage: finetune, ...}}; there are {kinds}"
        )
    for key in SET_BY_DOMAINS:
        given = [layer[key] for layer in (*overlays, common) if layer.get(key) is not None]
        if given:
            raise ConfigError(
                f"{key}: {reprlib.repr(given[0])}: {LEAVE_ONE_OUT} sets this key in every stage: "
                f"remove one of the two"
            )
