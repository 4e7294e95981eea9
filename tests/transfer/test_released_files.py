"""Files in the layout of the authors' releases, with all their names and the published sizes."""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model.layers import TransformerEncoder

from recbole_mm.config.load import load_config
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.run.run import Run
from recbole_mm.transfer.pretrained import TransferError

CLIP = {"encoder": "openai/clip-vit-base-patch32"}
AS_RELEASED = {"released": True, "use_time": True, "allow_fewer_layers": True}
SIGLIP = {"encoder": "google/siglip-base-patch16-224"}


class Config(dict):
    """Stands for RecBole's configuration, which a released file holds as a pickled object."""


def missrec_state(width=300, inner=256, features=512, length=50, items=None):
    """Names and shapes of MISSRec's parameters; with ``items`` those of a fine-tuned model."""
    attention = {
        "in_proj_weight": (3 * width, width), "in_proj_bias": (3 * width,),
        "out_proj.weight": (width, width), "out_proj.bias": (width,),
    }  # fmt: skip
    layer = {
        "linear1.weight": (inner, width), "linear1.bias": (inner,),
        "linear2.weight": (width, inner), "linear2.bias": (width,),
    }  # fmt: skip
    shapes = {"fusion_factor": (), "position_embedding.weight": (length, width)}
    for part, attentions, norms in (
        ("encoder", ["self_attn"], 2),
        ("decoder", ["self_attn", "multihead_attn"], 3),
    ):
        own = dict(layer)
        own |= {f"{a}.{name}": shape for a in attentions for name, shape in attention.items()}
        own |= {
            f"norm{n + 1}.{kind}": (width,) for n in range(norms) for kind in ("weight", "bias")
        }
        shapes |= {f"trm_model.{part}.layers.0.{name}": shape for name, shape in own.items()}
        shapes |= {f"trm_model.{part}.norm.{kind}": (width,) for kind in ("weight", "bias")}
    shapes |= {f"LayerNorm.{kind}": (width,) for kind in ("weight", "bias")}
    for modality in ("text", "img"):
        shapes |= {
            f"{modality}_adaptor.weight": (width, features),
            f"{modality}_adaptor.bias": (width,),
        }
    state = {name: torch.rand(shape) * 0.02 for name, shape in shapes.items()}
    if items:
        for modality in ("plm", "img"):
            state[f"{modality}_embedding_empty_mask"] = torch.zeros(items, dtype=torch.bool)
            state[f"{modality}_interest_lookup_table"] = torch.ones(items, dtype=torch.long)
        state["item_embedding.weight"] = torch.rand(items, width)
        state["interest_embeddings"] = torch.rand(items // 2, width)
    return state


def mmm4rec_state(layers=2, items=4899, width=256, features=768, length=20):
    """Names and shapes of MMM4Rec's parameters as they are saved, without the tables of features."""
    heads, inner, filters = 8, 2 * width, length // 2 + 1
    time = {
        "conv1d4time_1.weight": (heads, 1, 4), "conv1d4time_1.bias": (heads,),
        "conv1d4time_2.weight": (heads, 1, 4), "conv1d4time_2.bias": (heads,),
        "mlp4time_scale.1.weight": (length, length), "mlp4time_scale.1.bias": (length,),
        "mlp4time_scale.3.weight": (length, length), "mlp4time_scale.3.bias": (length,),
    }  # fmt: skip
    space = {"dt_bias": (heads,), "A_log": (heads,), "D": (heads,), "norm.weight": (inner,)}
    space |= {"out_proj.weight": (width, inner), "out_proj.bias": (width,)}
    ssd = time | space | {
        "in_proj.weight": (2056, width), "in_proj.bias": (2056,),
        "conv1d_1.weight": (1536, 1, 4), "conv1d_1.bias": (1536,),
        "time_gate_residual.1.weight": (1, length), "time_gate_residual.1.bias": (1,),
        "time_layer_norm.weight": (length,), "time_layer_norm.bias": (length,),
    }  # fmt: skip
    cross = time | space | {
        "u_in_proj.weight": (1032, width), "u_in_proj.bias": (1032,),
        "z_in_proj.weight": (inner, width), "z_in_proj.bias": (inner,),
        "q_in_proj.weight": (inner, width), "q_in_proj.bias": (inner,),
        "u_conv1d.weight": (1024, 1, 4), "u_conv1d.bias": (1024,),
        "q_conv1d.weight": (inner, 1, 4), "q_conv1d.bias": (inner,),
    }  # fmt: skip
    block = {"layer_norm.weight": (width,), "layer_norm.bias": (width,)}
    for name in ("fc1", "fc2"):
        block |= {f"ffn.{name}.weight": (width, width), f"ffn.{name}.bias": (width,)}
    block |= {"ffn.layer_norm.weight": (width,), "ffn.layer_norm.bias": (width,)}
    decoder = block | {"co_layer_norm.weight": (width,), "co_layer_norm.bias": (width,)}
    for signal in ("vision", "text", "co"):
        for kind in ("real", "imag"):
            name = f"{signal}_complex_weight.0.{kind}"
            decoder |= {f"{name}.weight": (filters, filters), f"{name}.bias": (filters,)}
    shapes = {"layer_norm_time.weight": (length,), "layer_norm_time.bias": (length,)}
    for modality in ("text", "vision"):
        shapes |= {
            f"{modality}_item_embedding_bias": (items, width),
            f"{modality}_in_layer_norm.weight": (width,), f"{modality}_in_layer_norm.bias": (width,),
            f"{modality}_adapter.0.weight": (width, features), f"{modality}_adapter.0.bias": (width,),
        }  # fmt: skip
    for n in range(layers):
        shapes |= {f"encoder_ssd_layers.{n}.ssd.{name}": shape for name, shape in ssd.items()}
        shapes |= {f"encoder_ssd_layers.{n}.{name}": shape for name, shape in block.items()}
        shapes |= {f"decoder_ssd_layers.{n}.ssd.{name}": shape for name, shape in ssd.items()}
        shapes |= {f"decoder_ssd_layers.{n}.co_ssd.{name}": shape for name, shape in cross.items()}
        shapes |= {f"decoder_ssd_layers.{n}.{name}": shape for name, shape in decoder.items()}
    state = {name: torch.rand(shape) * 0.02 for name, shape in shapes.items()}
    return {**state, "fusion_factor": torch.tensor(0.0)}


def unisrec_state(layers=2, width=300, inner=256, features=768, experts=8, length=50):
    """Names and shapes of UniSRec's parameters."""
    layer = {"multi_head_attention.LayerNorm": (width,), "feed_forward.LayerNorm": (width,)}
    layer |= {
        f"multi_head_attention.{name}": (width, width)
        for name in ("query", "key", "value", "dense")
    }
    layer |= {"feed_forward.dense_1": (inner, width), "feed_forward.dense_2": (width, inner)}
    shapes = {"position_embedding.weight": (length, width)}
    shapes |= {"LayerNorm.weight": (width,), "LayerNorm.bias": (width,)}
    for n in range(layers):
        for name, shape in layer.items():
            shapes[f"trm_encoder.layer.{n}.{name}.weight"] = shape
            shapes[f"trm_encoder.layer.{n}.{name}.bias"] = shape[:1]
    shapes |= {f"moe_adaptor.w_{name}": (features, experts) for name in ("gate", "noise")}
    for n in range(experts):
        shapes[f"moe_adaptor.experts.{n}.bias"] = (features,)
        shapes[f"moe_adaptor.experts.{n}.lin.weight"] = (width, features)
    return {name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}


def unisrec_scores(state, features, history):
    """Cosines of all items with a user, by the formulas of the paper and RecBole's encoder."""
    gates = (features @ state["moe_adaptor.w_gate"]).softmax(-1)
    experts = [
        (features - state[f"moe_adaptor.experts.{n}.bias"])
        @ state[f"moe_adaptor.experts.{n}.lin.weight"].T
        for n in range(gates.shape[1])
    ]
    items = sum(gate.unsqueeze(-1) * expert for gate, expert in zip(gates.T, experts, strict=True))
    width = items.shape[1]
    norm = (state["LayerNorm.weight"], state["LayerNorm.bias"], 1e-12)
    hidden = items[history] + state["position_embedding.weight"][: len(history)]
    hidden = torch.nn.functional.layer_norm(hidden, (width,), *norm).unsqueeze(0)
    encoder = TransformerEncoder(2, 2, width, 256, 0.0, 0.0, "gelu", 1e-12).eval()
    own = {
        name[len("trm_encoder.") :]: value for name, value in state.items() if "trm_encoder" in name
    }
    encoder.load_state_dict(own)
    later = torch.ones(len(history), len(history)).triu(1)
    user = encoder(hidden, later * -10000.0, output_all_encoded_layers=False)[-1][0, -1]
    return torch.nn.functional.cosine_similarity(items, user.unsqueeze(0))


def write_features(toy, width, info):
    tokens = [f"i{item}" for item in range(12)]
    for modality in ("text", "image"):
        values = np.random.default_rng(0).normal(size=(12, width)).astype(np.float32)
        path = feature_path(f"{toy['data_path']}/toy", "toy", modality)
        write_item_features(path, tokens, values, info)


@pytest.fixture
def missrec_file(tmp_path):
    path = tmp_path / "MISSRec-FHCKM_mm_full-100.pth"
    state = missrec_state()
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict()
    torch.save(
        {
            "config": Config(model="MISSRec"),
            "epoch": 99,
            "state_dict": state,
            "optimizer": optimizer,
        },
        path,
    )
    return path, state


@pytest.fixture
def mmm4rec_file(tmp_path):
    path = tmp_path / "pretrained_weight.ckpt"
    state = mmm4rec_state()
    optimizer = torch.optim.NAdam([torch.nn.Parameter(torch.ones(2))]).state_dict()
    torch.save({"model": state, "optimizer": optimizer, "epoch": 40}, path)
    return path, state


@pytest.fixture
def unisrec_file(tmp_path):
    path = tmp_path / "UniSRec-FHCKM-300.pth"
    state = unisrec_state()
    torch.save({"config": Config(model="UniSRec"), "epoch": 299, "state_dict": state}, path)
    return path, state


def opened(model, toy, path, **settings):
    given = {**toy, "pre_model_path": str(path), "show_progress": False, **settings}
    return Run(load_config(model, None, (), given)).model


def started(model, toy, path, **settings):
    return opened(model, toy, path, **settings).state_dict()


def test_a_released_missrec_starts_a_model_of_its_size(toy, missrec_file, caplog):
    path, state = missrec_file
    write_features(toy, 512, CLIP)

    own = started("MISSRec", toy, path)

    assert torch.equal(own["adapters.image.weight"], state["img_adaptor.weight"])
    assert torch.equal(
        own["transformer.decoder.layers.0.multihead_attn.in_proj_weight"],
        state["trm_model.decoder.layers.0.multihead_attn.in_proj_weight"],
    )
    assert "cannot check" not in caplog.text


def test_a_released_unisrec_ranks_as_the_formulas_of_the_paper_do(toy, unisrec_file):
    path, state = unisrec_file
    write_features(toy, 768, {"encoder": "bert-base-uncased", "pooling": "cls"})

    model = opened("UniSRec", toy, path, modalities=["text"], use_item_id=False).eval()

    history = torch.tensor([3, 5, 2])
    batch = Interaction({"item_id_list": torch.tensor([[3, 5, 2] + [0] * 47])})
    batch.update(Interaction({"item_length": torch.tensor([3])}))
    with torch.no_grad():
        scores = model.full_sort_predict(batch)[0, 1:] * model.temperature
        expected = unisrec_scores(state, model.feature("text").float(), history)[1:]
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)


def test_a_fine_tuned_missrec_gives_all_but_what_belongs_to_its_items(toy, missrec_file):
    path, _ = missrec_file
    state = missrec_state(items=40)
    torch.save({"config": Config(), "state_dict": state}, path)
    write_features(toy, 512, CLIP)

    own = started("MISSRec", toy, path)

    assert torch.equal(own["input_norm.weight"], state["LayerNorm.weight"])
    assert own["item_embedding.weight"].shape[0] == 13


def test_a_released_mmm4rec_gives_its_lower_layer(toy, mmm4rec_file):
    path, state = mmm4rec_file
    write_features(toy, 768, SIGLIP)

    own = started("MMM4Rec", toy, path, **AS_RELEASED)

    assert torch.equal(own["adapters.text.weight"], state["text_adapter.0.weight"])
    assert torch.equal(
        own["encoder_layers.0.ssd.conv.weight"],
        state["encoder_ssd_layers.0.ssd.conv1d_1.weight"].squeeze(1),
    )


@pytest.mark.parametrize(
    ("model", "width", "known", "settings"),
    [
        ("MISSRec", 512, "openai/clip-vit-base-patch32", {}),
        ("MMM4Rec", 768, "google/siglip-base-patch16-224", AS_RELEASED),
        ("UniSRec", 768, "bert-base-uncased", {"modalities": ["text"]}),
    ],
)
def test_released_parameters_are_refused_on_features_of_another_encoder(
    toy, request, model, width, known, settings
):
    path, _ = request.getfixturevalue(f"{model.lower()}_file")
    write_features(toy, width, {"encoder": "sentence-transformers/all-mpnet-base-v2"})

    with pytest.raises(TransferError) as error:
        started(model, toy, path, **settings)

    message = str(error.value)
    modalities = settings.get("modalities", ["text", "image"])
    for modality in modalities:
        assert f"{modality}: encoder '{known}' in the checkpoint, 'sentence-transf" in message
    assert f"reset: {[f'adapters.{modality}.*' for modality in modalities]}" in message


def test_converted_features_of_the_authors_are_a_warning(toy, missrec_file, caplog):
    write_features(toy, 512, {"encoder": "as in Scientific.feat1CLS"})

    started("MISSRec", toy, missrec_file[0])

    assert "text features by 'openai/clip-vit-base-patch32' in the checkpoint and an unknown" in (
        caplog.text
    )
