"""From a data set and an encoder to a tuned encoder in a folder."""

import json
import shutil
from pathlib import Path

import numpy as np

from recbole_mm.data.seen_split import refuse_other_split
from recbole_mm.encoder_tuning.pairs import TrainingPart, load_training_part, next_item_pairs
from recbole_mm.encoder_tuning.settings import EncoderTuningSettings
from recbole_mm.prepare.encoder_files import open_files
from recbole_mm.prepare.encoders import SENTENCE_TRANSFORMERS, Encoder
from recbole_mm.prepare.inputs import today
from recbole_mm.prepare.open_encoder import open_encoder
from recbole_mm.prepare.tuned_encoders import read_tuning, write_tuning
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import give_usual_modes
from recbole_mm.tools.locks import locked
from recbole_mm.tools.records import read_record, write_record

PLAN, LOCK, MODEL = "plan.json", "lock", "model"


def tune_encoder(
    config, name: str, target: Path, settings: EncoderTuningSettings, device: str | None = None
) -> bool:
    """Tune a text encoder on the pairs of a data set's training part, and save it in a folder.

    Checkpoints are kept in a hidden folder next to the target until it is complete: the same call
    resumes, and a finished tuning is not repeated.

    Args:
        config: configuration of the data set and its split.
        name: name of the encoder on the Hugging Face hub, or its folder.
        target: folder of the tuned encoder.
        settings: settings of the tuning.
        device: ``cpu`` or ``cuda``; ``None``: the GPU if there is one.

    Returns:
        whether it had to be tuned.

    Raises:
        UserError: the data or the encoder cannot be used, the encoder was tuned on another split, or
            the folder holds something else.
        RunFailed: the loss is not a number.
    """
    import torch

    settings.refuse_unusable()
    encoder = open_encoder(name, dtype=torch.float32, device=device)
    _refuse_unfit_encoder(encoder)
    part = load_training_part(config, settings.text_fields)
    if encoder.tuning is not None:
        seen = encoder.tuning["split"]
        refuse_other_split(f"encoder {name!r}", seen, part.split, "name another encoder")
    plan = _plan(encoder, part, settings)
    partial = target.with_name(f".{target.name}.partial")
    if target.exists():
        _refuse_other_content(target, plan)
        shutil.rmtree(partial, ignore_errors=True)  # of a process that ended after its last step
        return False
    partial.mkdir(parents=True, exist_ok=True)
    with locked(partial / LOCK, f"{target}: another process is creating it"):
        _start_or_resume(partial, plan)
        _tune_and_save(encoder, part, plan, settings, partial, target)
    shutil.rmtree(partial, ignore_errors=True)
    return True


def _refuse_unfit_encoder(encoder: Encoder) -> None:
    encoder.require("text")
    if encoder.loader != SENTENCE_TRANSFORMERS:
        raise UserError(
            f"encoder {encoder.name!r} has no sentence-transformers configuration (modules.json), "
            f"which tune-encoder needs; name one that has, such as "
            f"sentence-transformers/all-MiniLM-L6-v2"
        )


def _plan(encoder: Encoder, part: TrainingPart, settings: EncoderTuningSettings) -> dict:
    """Everything that determines the result, in the form in which a record is read."""
    plan = {
        "base": encoder.facts("text"),
        "split": part.split,
        "texts_sha256": part.texts_hash,
        "settings": settings._asdict(),
    }
    return json.loads(json.dumps(plan))


def _refuse_other_content(target: Path, plan: dict) -> None:
    """Refuse a folder unless the same tuning has made it."""
    record = read_tuning(open_files(str(target))) if target.is_dir() else None
    if record is None:
        raise UserError(f"{target}: it exists and is not a tuned encoder; name another --out")
    different = [key for key in plan if record.get(key) != plan[key]]
    if different:
        raise UserError(
            f"{target}: it exists and was tuned with other {_names(different, record, plan)}; delete "
            f"it, or name another --out"
        )


def _names(keys: list[str], record: dict, plan: dict) -> str:
    """The parts that differ; for the settings, which of them."""
    before, now = record.get("settings"), plan["settings"]
    if keys == ["settings"] and isinstance(before, dict):
        changed = [key for key in now if before.get(key) != now[key]]
        return "settings (" + ", ".join(f"{k}: {before.get(k)} then" for k in changed) + ")"
    words = {"base": "encoder", "split": "training events", "texts_sha256": "texts"}
    return ", ".join(words.get(key, key) for key in keys)


def _start_or_resume(partial: Path, plan: dict) -> None:
    """Discard what another tuning has left in the hidden folder."""
    path = partial / PLAN
    try:
        known = read_record(path)
    except UserError:
        known = {}
    if known is not None and known != plan:
        print(f"{partial}: of another encoder, setting or input; tuning starts from scratch")
        for left in partial.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
    write_record(path, plan)


def _tune_and_save(
    encoder, part: TrainingPart, plan: dict, settings, partial: Path, target: Path
) -> None:
    from recbole_mm.encoder_tuning.trainer import tune

    random = np.random.default_rng(settings.seed)
    pairs = next_item_pairs(part, settings.window, settings.max_pairs, random)
    print(
        f"{part.split['dataset']}: {len(pairs.after):,} pairs of the training part "
        f"({part.split['events']:,} events of {part.split['users']:,} users), batches of "
        f"{settings.batch_size}",
        flush=True,
    )
    result = tune(encoder.model, encoder.prompt, part.texts, pairs, settings, partial)
    model = partial / MODEL
    shutil.rmtree(model, ignore_errors=True)
    encoder.model.save_pretrained(str(model), create_model_card=False)
    write_tuning(model, {**plan, "result": result, "date": today()})
    give_usual_modes(model)
    model.replace(target)
