"""The training loop of sentence-transformers, with a contrastive loss over batches of pairs."""

import math
import time
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from datasets import Dataset, disable_progress_bars
from safetensors.torch import load_file, save_file
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler
from sentence_transformers.sentence_transformer import losses
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback, set_seed

from recbole_mm.encoder_tuning.pairs import Pairs, PairTexts
from recbole_mm.encoder_tuning.settings import EncoderTuningSettings
from recbole_mm.tools.errors import RunFailed, UserError
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.records import read_record, write_record

PAIRS_IN_MEMORY = 64
"""Larger batches go through the model in pieces of this size, which costs a second forward pass."""

SECONDS_BETWEEN_CHECKPOINTS = 300
BATCHES_BEFORE_ESTIMATE = 10
WARMUP = 0.1
CHECKPOINTS = "checkpoint-[0-9]*"
SEAL = "seal.json"
"""Hashes of the files of a checkpoint, written when it is complete."""


def tune(
    model: SentenceTransformer,
    prompt: str,
    texts: list[str],
    pairs: Pairs,
    settings: EncoderTuningSettings,
    folder: Path,
) -> dict:
    """Tune a model in place; the same call resumes from the checkpoints of an interrupted one.

    The loss of a pair is the cross entropy of its next item among those of the batch; the logits
    are the cosines of the vectors divided by the temperature. A batch has no duplicate text, so
    that no negative is another pair's positive under the same text.

    Args:
        model: model, on its device.
        prompt: prefix of every text.
        texts: texts by item id.
        pairs: pairs of items.
        settings: settings of the tuning.
        folder: folder of the checkpoints, which may hold some.

    Returns:
        ``pairs``, ``steps`` and ``loss``, the mean over the last call's batches.

    Raises:
        RunFailed: the loss is not a number.
        UserError: a checkpoint holds more than tensors, or LoRA is requested and the model has no
            transformer.
    """
    disable_progress_bars()
    set_seed(settings.seed)
    added = _add_lora(model, settings.lora_rank) if settings.lora_rank else None
    dataset = Dataset.from_dict({"before": pairs.before, "after": pairs.after})
    dataset.set_transform(PairTexts(texts))
    trainer = _Trainer(
        model,
        _arguments(folder, settings, prompt, model.device.type),
        train_dataset=dataset,
        loss=_loss(model, settings),
        callbacks=[_Progress(), _Checkpoints()],
    )
    trainer.remove_callback(PrinterCallback)
    with _shortened(model, settings.max_length):
        output = _train(trainer, latest_checkpoint(folder))
    weights = _trained(model).values()
    if not (math.isfinite(output.training_loss) and all(bool(w.isfinite().all()) for w in weights)):
        raise RunFailed("the loss or a weight is not a finite number: lower --learning-rate")
    if added is not None:
        added.merge_and_unload()
    model.eval()
    return {"pairs": len(dataset), "steps": output.global_step, "loss": output.training_loss}


@contextmanager
def _shortened(model: SentenceTransformer, max_length: int):
    """Truncate texts to ``max_length`` tokens while the block runs; word vectors have no such
    limit.

    The tokenizer is restored: it keeps the lengths of its last batch, and would be saved with or
    without them, depending on whether this process has trained or found everything done.
    """
    length = model.max_seq_length
    settable = length is None or math.isfinite(length)
    if settable:
        model.max_seq_length = min(length or max_length, max_length)
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if tokenizer is not None:
        truncation, padding = tokenizer.truncation, tokenizer.padding
    try:
        yield
    finally:
        if settable:
            model.max_seq_length = length
        if tokenizer is not None:
            _set_lengths(tokenizer, truncation, padding)


def _set_lengths(tokenizer, truncation: dict | None, padding: dict | None) -> None:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if truncation is not None:
        tokenizer.enable_truncation(**truncation)
    if padding is not None:
        tokenizer.enable_padding(**padding)


def _train(trainer: SentenceTransformerTrainer, checkpoint: Path | None):
    try:
        return trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except UnpicklingError as error:
        raise UserError(
            f"{checkpoint}: it holds more than tensors, which is not loaded; delete it"
        ) from error


def latest_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint that is complete and not damaged."""
    found = folder.glob(f"{CHECKPOINTS}/{SEAL}")
    steps = {int(path.parent.name.partition("-")[2]): path.parent for path in found}
    return next(
        (steps[step] for step in sorted(steps, reverse=True) if _is_whole(steps[step])), None
    )


def _is_whole(checkpoint: Path) -> bool:
    try:
        return read_record(checkpoint / SEAL) == _hashes(checkpoint)
    except UserError:
        return False


def _hashes(checkpoint: Path) -> dict[str, str]:
    files = (path for path in sorted(checkpoint.iterdir()) if path.name != SEAL)
    return {path.name: sha256_of_file(path) for path in files}


def _add_lora(model: SentenceTransformer, rank: int):
    """Add trainable matrices to the linear layers in place, and freeze everything else."""
    from peft import LoraConfig, get_peft_model

    transformer = model.transformers_model
    if transformer is None:
        raise UserError(
            f"--lora-rank={rank}: the encoder has no transformer; omit the option to train all "
            f"weights"
        )
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules="all-linear")
    model.requires_grad_(False)
    return get_peft_model(transformer, config)


def _loss(model: SentenceTransformer, settings: EncoderTuningSettings) -> torch.nn.Module:
    scale = 1 / settings.temperature
    if settings.batch_size <= PAIRS_IN_MEMORY:
        return losses.MultipleNegativesRankingLoss(model, scale=scale)
    return losses.CachedMultipleNegativesRankingLoss(
        model, scale=scale, mini_batch_size=PAIRS_IN_MEMORY
    )


def _arguments(
    folder: Path, settings: EncoderTuningSettings, prompt: str, device: str
) -> SentenceTransformerTrainingArguments:
    return _Arguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        batch_sampler=_BatchesOfAllPairs,
        prompts=prompt or None,
        use_cpu=device == "cpu",
        bf16=device == "cuda" and torch.cuda.is_bf16_supported(),
        dataloader_pin_memory=device != "cpu",
        save_strategy="no",  # by the clock, see _Checkpoints
        save_total_limit=2,
        logging_steps=BATCHES_BEFORE_ESTIMATE,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
    )


class _Arguments(SentenceTransformerTrainingArguments):
    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Few steps have no warm-up, whose first step changes nothing."""
        return int(WARMUP * num_training_steps)


class _BatchesOfAllPairs(NoDuplicatesBatchSampler):
    """Batches without duplicate texts, as many as all pairs need.

    Batches that duplicates keep small are more than the pairs divided by the batch size, which is the
    length of the base class; what exceeds the length is never trained on. The batches of the first
    epoch are counted.
    """

    counted: int | None = None

    def __len__(self) -> int:
        if self.counted is None:
            self.counted = 0  # the base class adds no batches to reach a length of 0
            epoch, self.epoch = self.epoch, 0
            self.counted = sum(1 for _ in self)
            self.epoch = epoch
        return self.counted


class _Trainer(SentenceTransformerTrainer):
    """Checkpoints hold only the trained weights, and are read without a configuration."""

    def add_model_card_callback(self, default_args_dict):
        """No model card: it would quote texts of the data set."""

    def _save(self, output_dir=None, state_dict=None):  # noqa: ARG002 the trainer's signature
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(_trained(self.model), folder / "trained.safetensors")

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):  # noqa: ARG002
        saved = load_file(Path(resume_from_checkpoint, "trained.safetensors"))
        with torch.no_grad():
            for name, value in _trained(self.model).items():
                value.copy_(saved[name])


def _trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    parameters = model.named_parameters()
    return {name: value.data.contiguous() for name, value in parameters if value.requires_grad}


class _Checkpoints(TrainerCallback):
    """Asks for a checkpoint every few minutes, and seals it."""

    def on_train_begin(self, args, state, control, **kwargs):  # noqa: ARG002
        self.last = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):  # noqa: ARG002
        if time.monotonic() - self.last >= SECONDS_BETWEEN_CHECKPOINTS:
            control.should_save = True
            self.last = time.monotonic()

    def on_save(self, args, state, control, **kwargs):  # noqa: ARG002
        checkpoint = Path(args.output_dir, f"checkpoint-{state.global_step}")
        write_record(checkpoint / SEAL, _hashes(checkpoint))


class _Progress(TrainerCallback):
    """A bar with the loss, and an estimate of the time after the first batches."""

    def on_train_begin(self, args, state, control, **kwargs):  # noqa: ARG002
        self.first, self.start = state.global_step, time.monotonic()
        if self.first:
            print(f"resumes after {self.first} of {state.max_steps} batches", flush=True)
        self.bar = tqdm(total=state.max_steps, initial=self.first, desc="tuning", unit="batch")

    def on_step_end(self, args, state, control, **kwargs):  # noqa: ARG002
        self.bar.update()
        done = state.global_step - self.first
        if done == BATCHES_BEFORE_ESTIMATE:
            left = (time.monotonic() - self.start) / done * (state.max_steps - state.global_step)
            self.bar.write(f"{state.max_steps} batches, about {_in_words(left)} left")

    def on_log(self, args, state, control, logs=None, **kwargs):  # noqa: ARG002
        if "loss" in (logs or {}):
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.3f}")

    def on_train_end(self, args, state, control, **kwargs):  # noqa: ARG002
        self.bar.close()


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
