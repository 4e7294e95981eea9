"""The encoder-decoder equals torch's at one position, and is finite where torch's is not."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from recbole_mm.model.layers.transformer import Attention, EncoderDecoder, causal_layer_at

D, HEADS, INNER = 8, 2, 6


@pytest.fixture(autouse=True)
def float64():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def pair(n_layers=2):
    """Ours and torch's with the same weights."""
    ours = EncoderDecoder(D, HEADS, n_layers, INNER)
    half = n_layers // 2
    theirs = nn.Transformer(
        D, HEADS, half, half, INNER, 0.0, F.gelu, layer_norm_eps=1e-12, batch_first=True
    )
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def padded(*lengths, width=None):
    lengths = torch.tensor(lengths)
    return torch.arange(width or int(lengths.max())) >= lengths.unsqueeze(1)


def read(model, source, source_padding, target, padding, position):
    memory = model.encode(source, source_padding)
    return model.decode_at(position, target, padding, memory, source_padding)


@pytest.mark.parametrize("n_layers", [2, 4, 6])
@pytest.mark.parametrize("length", [1, 4])
def test_it_equals_torchs_transformer_at_the_position_that_is_read(n_layers, length):
    ours, theirs = pair(n_layers)
    source, target = torch.randn(3, 5, D), torch.randn(3, length, D)
    source_padding, padding = padded(5, 2, 1), padded(length, 1, 1, width=length)
    position = torch.tensor([length - 1, 0, 0])

    expected = theirs(
        source,
        target,
        src_key_padding_mask=source_padding,
        tgt_key_padding_mask=padding,
        memory_key_padding_mask=source_padding,
    )[torch.arange(3), position]

    assert_close(read(ours, source, source_padding, target, padding, position), expected)


@pytest.mark.parametrize("n_layers", [2, 4])
def test_it_equals_torchs_causal_transformer_at_all_positions_and_at_one(n_layers):
    ours, theirs = pair(n_layers)
    source, target = torch.randn(3, 4, D), torch.randn(3, 4, D)
    padding = padded(4, 2, 1)
    later = torch.ones(4, 4, dtype=torch.bool).triu(1)
    expected = theirs(
        source,
        target,
        src_mask=later,
        tgt_mask=later,
        memory_mask=later,
        src_key_padding_mask=padding,
        tgt_key_padding_mask=padding,
        memory_key_padding_mask=padding,
    )
    mask = padding.unsqueeze(1) | later

    memory = ours.encode(source, mask)
    everywhere = ours.decode(target, mask, memory, mask)
    position = torch.tensor([2, 1, 0])
    at_one = ours.decode_at(position, target, mask, memory, mask)

    assert_close(everywhere[~padding], expected[~padding])
    assert_close(at_one, expected[torch.arange(3), position])


def test_its_gradients_are_those_of_torchs_transformer():
    ours, theirs = pair()
    source, target, padding = torch.randn(2, 3, D), torch.randn(2, 4, D), padded(4, 2)
    none = torch.zeros(2, 3, dtype=torch.bool)

    read(ours, source, none, target, padding, torch.tensor([3, 1])).square().sum().backward()
    output = theirs(source, target, tgt_key_padding_mask=padding)
    output[torch.arange(2), torch.tensor([3, 1])].square().sum().backward()

    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, expected[name].grad, msg=name)


@pytest.mark.parametrize("n_queries", [1, 3])
def test_attention_passes_gradcheck(n_queries):
    attention = Attention(4, 2)
    query = torch.randn(2, n_queries, 4, requires_grad=True)
    keys = torch.randn(2, 3, 4, requires_grad=True)

    assert torch.autograd.gradcheck(lambda q, k: attention(q, k, padded(3, 2)), (query, keys))


@pytest.mark.parametrize("n_queries", [1, 3])
def test_padded_keys_change_nothing(n_queries):
    attention = Attention(D, HEADS)
    query, keys = torch.randn(1, n_queries, D), torch.randn(1, 4, D)
    other = keys.clone()
    other[:, 2:] = 1e6

    assert_close(
        attention(query, other, padded(2, width=4)), attention(query, keys, padded(2, width=4))
    )


@pytest.mark.parametrize("n_queries", [1, 3])
def test_a_row_without_any_key_reads_zero_with_finite_gradients(n_queries):
    attention = Attention(D, HEADS)
    nn.init.normal_(attention.out_proj.bias)
    query = torch.randn(2, n_queries, D, requires_grad=True)
    keys = torch.randn(2, 4, D, requires_grad=True)

    output = attention(query, keys, padded(0, 4, width=4))
    output.square().sum().backward()

    assert_close(output[0], attention.out_proj.bias.expand(n_queries, D))
    assert all(x.grad.isfinite().all() for x in (query, keys, *attention.parameters()))
    assert (keys.grad[0] == 0).all() and (keys.grad[1] != 0).any()


@pytest.mark.parametrize("n_queries", [1, 2])
def test_dropped_attention_weights_average_to_the_undropped_output(n_queries):
    attention = Attention(D, HEADS, dropout=0.3)
    nn.init.normal_(attention.in_proj_bias)
    query, keys = torch.randn(1, n_queries, D), torch.randn(1, 4, D)
    many = [x.expand(20_000, -1, -1) for x in (query, keys)]

    mean = attention.train()(*many, padded(3, width=4).expand(20_000, -1)).mean(0)

    assert_close(mean, attention.eval()(query, keys, padded(3, width=4))[0], atol=0.02, rtol=0)


@pytest.mark.parametrize("n_layers", [-2, 0, 1, 3])
def test_an_odd_or_missing_number_of_layers_is_refused(n_layers):
    with pytest.raises(ValueError, match=f"n_layers={n_layers}.*even"):
        EncoderDecoder(D, HEADS, n_layers, INNER)


def test_heads_that_do_not_divide_the_hidden_size_are_refused():
    with pytest.raises(ValueError, match="hidden_size=8.*n_heads=3"):
        EncoderDecoder(D, 3, 2, INNER)


@pytest.mark.parametrize("length", [1, 4])
def test_a_causal_layer_of_torch_at_one_position_is_the_layer_there(length):
    layer = nn.TransformerEncoderLayer(
        D, HEADS, INNER, 0.5, "gelu", 1e-8, batch_first=True, norm_first=True
    ).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    x, position = torch.randn(3, length, D), torch.tensor([0, length - 1, length // 2])
    mask = nn.Transformer.generate_square_subsequent_mask(length, dtype=x.dtype)
    expected = layer(x, src_mask=mask, is_causal=True)

    found = causal_layer_at(layer, x, position)

    assert_close(found, expected[torch.arange(3), position])
