r"""Checkpoints of the papers' authors, with their parameters renamed to ours.

Only tensors are read: nothing in such a file can execute code. The released MISSRec checkpoints
also hold pickled RecBole objects, which ``weights_only`` refuses as a whole; here everything but
tensors and plain containers is read as an empty stand-in.
"""

import pickle
import re
import types
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.torch_files import TorchFileError, read_torch, refuse_unusable

TIME_SCALE = [
    (r"mlp4time_scale\.1\.", "time_scale.scale_in."),
    (r"mlp4time_scale\.3\.", "time_scale.scale_out."),
    (r"conv1d4time_1\.", "time_scale.conv_in."),
    (r"conv1d4time_2\.", "time_scale.conv_out."),
]

# authors' name -> ours, applied in this order; the second modality is called vision there
MMM4REC = [
    (r"^text_item_embedding_bias$", "item_embeddings.text"),
    (r"^vision_item_embedding_bias$", "item_embeddings.image"),
    (r"^text_in_layer_norm\.", "input_norms.text."),
    (r"^vision_in_layer_norm\.", "input_norms.image."),
    (r"^text_adapter\.0\.", "adapters.text."),
    (r"^vision_adapter\.0\.", "adapters.image."),
    (r"^layer_norm_time\.", "time_norm."),
    (r"^fusion_factor$", "fusion.weight"),
    (r"^encoder_ssd_layers\.(\d+)\.", r"encoder_layers.\1."),
    (r"^decoder_ssd_layers\.(\d+)\.", r"cross_layers.image.\1."),
    (r"\.co_ssd\.", ".cross_ssd."),
    (r"\.(dt_bias|A_log|D)$", r".state_space.\1"),
    (r"\.ssd\.conv1d_1\.", ".ssd.conv."),
    (r"\.time_gate_residual\.1\.", ".time_gate.gate."),
    (r"\.time_layer_norm\.", ".time_gate.norm."),
    (r"\.u_conv1d\.", ".u_conv."),
    (r"\.q_conv1d\.", ".q_conv."),
    *TIME_SCALE,
    (r"\.text_complex_weight\.0\.", ".time_fusion.first_filter."),  # acts on vision, see quirks
    (r"\.vision_complex_weight\.0\.", ".time_fusion.second_filter."),
    (r"\.co_complex_weight\.0\.", ".time_fusion.merge_filter."),
    (r"\.co_layer_norm\.", ".cross_norm."),
    (r"\.ffn\.layer_norm\.", ".ffn.norm."),
    (r"(layers\.(?:image\.)?\d+)\.layer_norm\.", r"\1.norm."),
]
# tables that belong to a data set, and the second copy of blocks that two streams share
MMM4REC_LEFT_OUT = r"^(text|vision)_embedding$|^decoder_ssd_layers\.\d+\.ssd\."

# the second modality is called img there; the Transformer has torch's own names
MISSREC = [
    (r"^fusion_factor$", "fusion.factor"),
    (r"^trm_model\.", "transformer."),
    (r"^LayerNorm\.", "input_norm."),
    (r"^text_adaptor\.", "adapters.text."),
    (r"^img_adaptor\.", "adapters.image."),
    (r"^interest_embeddings$", "interests.embeddings"),
]
MISSREC_LEFT_OUT = r"^(plm|img)_embedding(\.weight|_empty_mask)$"
# texts alone; the maps of the experts are torch's Linear, ours have the other orientation
UNISREC = [
    (r"^trm_encoder\.", "encoder."),
    (r"^LayerNorm\.", "input_norm."),
    (r"^moe_adaptor\.experts\.(\d+)\.bias$", r"adapters.text.experts.\1.shift"),
    (r"^moe_adaptor\.experts\.(\d+)\.lin\.weight$", r"adapters.text.experts.\1.weight"),
    (r"^moe_adaptor\.w_gate$", "adapters.text.gate"),
    (r"^moe_adaptor\.w_noise$", "adapters.text.noise"),
]
UNISREC_LEFT_OUT = r"^plm_embedding\."
MISSREC_LOOKUPS = ("plm_interest_lookup_table", "img_interest_lookup_table")


CLIP = {"encoder": "openai/clip-vit-base-patch32"}
SIGLIP = {"encoder": "google/siglip-base-patch16-224"}
BERT = {"encoder": "bert-base-uncased", "pooling": "cls"}
FEATURES = {
    "UniSRec": {"text": BERT},
    "MISSRec": {"text": CLIP, "image": CLIP},
    "MMM4Rec": {"text": SIGLIP, "image": SIGLIP},
}
"""How the features were made that the released parameters were trained on, according to UniSRec's
``process_amazon.py``, MISSRec's paper, and MMM4Rec's ``extract_feature.py``."""


class AuthorsCheckpointError(UserError):
    """A checkpoint that is not one of the released ones."""


def rename_mmm4rec(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' MMM4Rec state to ours (convolutions lose their axis of size 1)."""
    renamed = {}
    for name, value in state.items():
        if re.search(MMM4REC_LEFT_OUT, name) or (name == "fusion_factor" and value.dim() == 0):
            continue
        is_conv = "conv1d" in name and value.dim() == 3
        renamed[_rename(name, MMM4REC)] = value.squeeze(1) if is_conv else value
    return renamed


def rename_missrec(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' MISSRec state to ours (one look-up table of interests for all
    modalities)."""
    lookups = [state[name] for name in MISSREC_LOOKUPS if name in state]
    renamed = {
        _rename(name, MISSREC): value
        for name, value in state.items()
        if name not in MISSREC_LOOKUPS and not re.search(MISSREC_LEFT_OUT, name)
    }
    if lookups:
        renamed["interests.lookup"] = torch.stack(lookups)
    return renamed


def rename_unisrec(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' UniSRec state to ours."""
    return {
        _rename(name, UNISREC): value.T.contiguous() if ".lin." in name else value
        for name, value in state.items()
        if not re.search(UNISREC_LEFT_OUT, name)
    }


def import_authors_checkpoint(path, model: str) -> dict[str, Tensor]:
    """Read a released checkpoint and give its parameters our names.

    Args:
        path: ``.ckpt`` of MMM4Rec (its ``model`` entry), or ``.pth`` of MISSRec or UniSRec
            (``state_dict``).
        model: name of a model in :data:`IMPORTERS`.

    Returns:
        a state dict; tables that belong to a data set are in it if the file has them.

    Raises:
        AuthorsCheckpointError: there is no importer for this model, or the file is not a
            checkpoint, is damaged, has none of the model's parameters, or has NaN or infinite ones.
    """
    path = Path(path)
    if model not in IMPORTERS:
        raise AuthorsCheckpointError(
            f"{path}: not a checkpoint of this package. Checkpoints of the papers' authors can be read "
            f"for {' and '.join(IMPORTERS)}, not for {model}."
        )
    entry, rename, known_name = IMPORTERS[model]
    try:
        checkpoint = read_torch(path, _inert)
    except TorchFileError as error:
        raise AuthorsCheckpointError(
            f"{path}: neither a checkpoint of this package nor one of {model}'s authors that can be "
            f"read without executing code ({error}). Give another pre_model_path."
        ) from error
    state = _parameters(checkpoint, entry)
    if not any(re.search(known_name, name) for name in state):
        raise AuthorsCheckpointError(
            f"{path}: neither a checkpoint of this package nor one released by {model}'s authors "
            f"(looked for names like {known_name!r}; it has {sorted(state)[:5]})."
        )
    refuse_unusable(state, str(path), AuthorsCheckpointError)
    try:
        return rename(state)
    except (RuntimeError, IndexError) as error:  # shapes that no release has
        raise AuthorsCheckpointError(
            f"{path}: its parameters do not have the shapes of {model}'s release ({error})."
        ) from error


def _parameters(checkpoint, entry: str) -> dict[str, Tensor]:
    """Tensors by name, in the entry of a file or in the file itself."""
    state = checkpoint.get(entry, checkpoint) if isinstance(checkpoint, Mapping) else {}
    named = state.items() if isinstance(state, Mapping) else ()
    return {k: v for k, v in named if isinstance(k, str) and isinstance(v, Tensor)}


def _rename(name: str, table: list[tuple[str, str]]) -> str:
    for pattern, replacement in table:
        name = re.sub(pattern, replacement, name)
    return name


class StandIn(dict):
    """Takes the place of an object that is not read: accepts any state, does nothing."""

    def __new__(cls, *_, **__):
        return super().__new__(cls)

    def __init__(self, *_, **__):
        super().__init__()

    def __setstate__(self, state):
        pass

    def append(self, item):
        pass

    def extend(self, items):
        pass


# what torch.save writes for tensors and parameters; none of it runs code of the file's choice
READ = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    *(
        ("torch", f"{kind}Storage")
        for kind in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Bool")
    ),
}


class InertUnpickler(pickle.Unpickler):
    """Reads tensors; anything else that a file names becomes a :class:`StandIn`."""

    def find_class(self, module, name):
        return super().find_class(module, name) if (module, name) in READ else StandIn


_inert = types.ModuleType("inert_pickle")
vars(_inert).update(
    Unpickler=InertUnpickler,
    load=lambda file, **options: InertUnpickler(file, **options).load(),
)

IMPORTERS = {
    "MMM4Rec": ("model", rename_mmm4rec, r"^encoder_ssd_layers\.0\."),
    "MISSRec": ("state_dict", rename_missrec, r"^trm_model\."),
    "UniSRec": ("state_dict", rename_unisrec, r"^moe_adaptor\."),
}
