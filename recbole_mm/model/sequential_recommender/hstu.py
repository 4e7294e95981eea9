r"""HSTU: gated attention without a softmax, on the same base as SASRecPlus."""

from collections.abc import Iterable

from torch import Tensor, nn

from recbole_mm.model.layers.hstu import HSTUBlock
from recbole_mm.model.sequential_recommender.sasrecplus import SASRecPlus


class HSTU(SASRecPlus):
    r"""SASRecPlus with the blocks of HSTU: items, loss and everything else are those of SASRecPlus,
    so that any difference comes from the blocks.

    NOTE: attention knows the order of events, not the time between them: the time bias of the
    authors' code is omitted.
    NOTE: users are not normalized to length 1, and the loss is over all items, while the authors'
    loss is over a sample with ``temperature`` .05.

    Reference:
        Jiaqi Zhai et al. "Actions speak louder than words: trillion-parameter sequential transducers
        for generative recommendations." ICML 2024 (arXiv 2402.17152).
    """

    function_keys = ("n_heads", "layer_norm_eps")

    def make_block(self, config) -> nn.Module:
        return HSTUBlock(
            self.hidden_size,
            config["n_heads"],
            self.max_seq_length,
            config["hidden_dropout_prob"],
            config["layer_norm_eps"],
            self.initializer_range,
        )

    def through_blocks(self, hidden: Tensor, blocks: Iterable[nn.Module] | None = None) -> Tensor:
        for block in self.encoder if blocks is None else blocks:
            hidden = block(hidden)
        return hidden

    def through_blocks_at(self, hidden: Tensor, position: Tensor) -> Tensor:
        return self.gather_indexes(self.through_blocks(hidden), position)
