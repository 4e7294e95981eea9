"""A model as files that recommend without torch: two ONNX graphs, and the items as matrices.

============= =========================================================================
encoder.onnx  users from their histories. Inputs: ``item_seq`` ``(b, L)`` int64, rows of the items,
              right-padded with 0; ``length`` ``(b,)`` int64, >= 1; for a model with time ``times``
              ``(b, L)`` and ``request_time`` ``(b,)`` float64, unix seconds; arrays of items.npz.
              Outputs: ``user`` ``(b, d)``; for a model that learned repeats ``added`` ``(b, L)``,
              which belongs to the scores of the items in ``item_seq``
scorer.onnx   scores ``(b, n)`` from ``user`` and arrays of items.npz, of all items or of some rows
items.npz     an array for each of these inputs, by name, without pickled objects; and
              ``recommendable`` ``(n,)`` bool. Row 0 is the padding item
serving.json  ``model``, ``length`` (``L``), ``bytes`` and ``sha256`` of the other files
============= =========================================================================

The graphs accept any number of users and of items, so the same graphs serve a changed catalog.
"""

import contextlib
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    CommonSubexpressionEliminationPass,
    IdentityEliminationPass,
    InlinePass,
    RemoveUnusedNodesPass,
)
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn
from torch.export import Dim
from torch.func import functional_call
from torch.utils import _pytree as pytree

from recbole_mm.model.layers.item_rows import tables_of_items
from recbole_mm.recommend.catalog import Catalog
from recbole_mm.tools.errors import UserError, first_line
from recbole_mm.tools.files import write_json
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.transfer.bundle import ONNX_FOLDER

ENCODER, SCORER, ITEMS, DESCRIPTION = "encoder.onnx", "scorer.onnx", "items.npz", "serving.json"
RECOMMENDABLE = "recommendable"
EXAMPLES = 2
"""Number of users in the traced batch."""


class _Reader(nn.Module):
    """:meth:`~recbole_mm.model.abstract_recommender.MultiModalRecommender.encode` as a module."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor], items):
        """``user`` and, if there are any, ``added``, of a batch."""
        added = self.model.history_additions(batch)
        user = self.model.user_vectors(batch, items)
        return (user,) if added is None else (user, added.value)


class _Encoder(nn.Module):
    """The reader as a function of tensors only: what it knows about the items is an argument.

    Args:
        model: model of this package.
        items: embedded items of the model, whose tensors are replaced.
        fields: names of the fields of a batch.
        buffers: names of further tensors with an entry per item.
    """

    def __init__(self, model, items, fields: list[str], buffers: list[str]):
        super().__init__()
        self.reader = _Reader(model)
        self.leaves, self.structure = pytree.tree_flatten(items)
        self.fields, self.tables = fields, buffers

    def forward(self, batch: list[Tensor], tables: list[Tensor]):
        """See :class:`_Reader`; ``tables`` are those of the items, then the buffers."""
        given = iter(tables)
        leaves = [None if leaf is None else next(given) for leaf in self.leaves]
        items = pytree.tree_unflatten(leaves, self.structure)
        buffers = {f"model.{name}": table for name, table in zip(self.tables, given, strict=True)}
        fields = dict(zip(self.fields, batch, strict=True))
        return functional_call(self.reader, buffers, (fields, items))


class _Scorer(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, batch: list[Tensor], tables: list[Tensor]) -> Tensor:
        return self.function(*batch, *tables)


class Graph(NamedTuple):
    """A module to be written as a graph.

    Attributes:
        module: module that takes lists of tensors.
        batch: example inputs with a row per user, by name.
        items: inputs with an entry per item, by name, and the axis of the items; axis ``None``: the
            same for all items.
        outputs: names of the outputs.
    """

    module: nn.Module
    batch: dict[str, Tensor]
    items: dict[str, tuple[Tensor, int | None]]
    outputs: list[str]


def write_onnx(folder, model, catalog: Catalog) -> None:
    """Write the files of a model.

    Args:
        folder: target folder, created if it does not exist.
        model: model of this package, on the CPU, in evaluation mode.
        catalog: items of the model.

    Raises:
        OSError: the files cannot be written.
        UserError: the model computes what torch cannot export.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    used: dict[str, Any] = {}
    with torch.no_grad(), _as_exported(model):
        items = model.all_items()
        encoder, scorer = encoder_graph(model, items), scorer_graph(model, items)
        used |= _write_graph(folder / ENCODER, encoder, "the users")
        used |= _write_graph(folder / SCORER, scorer, "the scores")
    recommendable = catalog.offered & ~model.never_recommended().cpu()
    recommendable[0] = False
    used[RECOMMENDABLE] = recommendable.numpy()
    np.savez(folder / ITEMS, **used)
    describe(folder, {"model": type(model).__name__, "length": model.max_seq_length})


def describe(folder: Path, facts: dict) -> None:
    """Write ``serving.json``, with the sizes and hashes of all other files of the folder."""
    paths = [path for path in sorted(folder.iterdir()) if path.name != DESCRIPTION]
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)} for path in paths
    }
    write_json(folder / DESCRIPTION, {**facts, "files": files})


def encoder_graph(model, items) -> Graph:
    """The user encoder.

    Args:
        model: model of this package.
        items: result of its ``all_items``.
    """
    length = model.max_seq_length
    fields = {
        model.ITEM_SEQ: ("item_seq", torch.ones(EXAMPLES, length, dtype=torch.long)),
        model.ITEM_SEQ_LEN: ("length", torch.full((EXAMPLES,), length)),
    }
    if model.use_time:
        times = torch.arange(length, dtype=torch.float64).expand(EXAMPLES, -1).clone()
        fields[model.TIME_SEQ] = ("times", times)
        fields[model.TIME] = ("request_time", times[:, -1].clone())
    leaves, _ = pytree.tree_flatten_with_path(items)
    tables = {f"items{_dotted(path)}": (leaf, 0) for path, leaf in leaves if leaf is not None}
    buffers = _buffers_of_items(model)
    module = _Encoder(model, items, list(fields), list(buffers))
    outputs = ["user"] if model.repeats is None else ["user", "added"]
    return Graph(module, dict(fields.values()), {**tables, **buffers}, outputs)


def scorer_graph(model, items) -> Graph:
    """The scores of embedded items; arguments as for :func:`encoder_graph`."""
    scores = model.scores_with_neighbors(items)
    user = torch.zeros(EXAMPLES, scores.bounds(*scores.tables).shape[-1])
    tables: dict[str, tuple[Tensor, int | None]] = {
        f"scores.{number}": (table, 0 if table.dim() else None)
        for number, table in enumerate(scores.tables)
    }
    return Graph(_Scorer(scores.function), {"user": user}, tables, ["score"])


def feed(session, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of the arrays that are inputs of a graph."""
    names = [given.name for given in session.get_inputs()]
    return {name: arrays[name] for name in names if name in arrays}


def open_session(path) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU."""
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _write_graph(path: Path, graph: Graph, what: str) -> dict[str, np.ndarray]:
    """Write a graph of ``what``, and return the tables that it reads, by name of the input."""
    print(f"{ONNX_FOLDER}/{path.name}: writing the graph of {what}, up to a minute", flush=True)
    users, items = Dim("users"), Dim("items")
    tables = [table for table, _ in graph.items.values()]
    axes = [{axis: items} if axis is not None else {} for _, axis in graph.items.values()]
    rows = [{0: users} for _ in graph.batch]
    given = (list(graph.batch.values()), tables)
    graph.module.eval()(*given)  # a model may prepare something at its first call
    with _quiet_export(), _exporter_errors(path):
        traced = torch.export.export(
            graph.module,
            given,
            dynamic_shapes=(rows, axes),
        ).run_decompositions({torch.ops.aten.fft_irfft.default: inverse_rfft})
        program = torch.onnx.export(
            traced,
            dynamo=True,
            verbose=False,
            input_names=[*graph.batch, *graph.items],
            output_names=graph.outputs,
            optimize=False,
        )
        assert program is not None  # it is when a file is named
        _optimize(program)
    inputs = program.model.graph.inputs
    for value in [value for value in inputs if not value.uses()]:
        inputs.remove(value)
    # removes the exporter's notes: the file and line on this machine that every node comes from
    ClearMetadataAndDocStringPass()(program.model)
    program.save(str(path))
    used = {value.name for value in inputs}
    return {name: table.numpy() for name, (table, _) in graph.items.items() if name in used}


def _optimize(program) -> None:
    """Optimize a graph. The exporter tries all its rules on every node, so it takes a third of the
    time if constant and duplicate nodes are removed first."""
    InlinePass()(program.model)
    for _ in range(2):
        fold_constants(program.model)
        for simplify in (
            IdentityEliminationPass(),
            CommonSubexpressionEliminationPass(),
            RemoveUnusedNodesPass(),
        ):
            simplify(program.model)
    program.optimize()


def inverse_rfft(
    spectrum: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None
) -> Tensor:
    """:func:`torch.fft.irfft` as products of real matrices.

    ``DFT`` of ONNX has an inverse that gives real signals only from opset 20 on, and onnxruntime
    1.23, the last version for Python 3.10, refuses it.
    """
    length = 2 * (spectrum.shape[dim] - 1) if n is None else n
    frequency = torch.arange(min(spectrum.shape[dim], length // 2 + 1)).unsqueeze(1)
    angle = (frequency * torch.arange(length) % length).double() * (2 * torch.pi / length)
    scale = {"ortho": length**-0.5, "forward": 1.0}.get(norm or "backward", 1 / length)
    # a frequency and its mirror image count as two, unless they are the same
    weight = torch.where(2 * frequency % length == 0, scale, 2 * scale)

    def product(part: Tensor, wave: Tensor) -> Tensor:
        rows = part.movedim(dim, -1)[..., : len(frequency)]
        return rows @ (weight * wave).to(part)

    signal = product(spectrum.real, angle.cos()) - product(spectrum.imag, angle.sin())
    return signal.movedim(-1, dim)


def _buffers_of_items(model) -> dict[str, tuple[Tensor, int | None]]:
    """What :meth:`encode` may read about the items besides its argument: buffers of the model."""
    buffers = dict(model.named_buffers())
    tables = dict.fromkeys(
        (*(f"item_table.{m}_present" for m in model.modalities), "neighbors.table"), 0
    )
    axes = {
        name: axis
        for name, (_, axis) in tables_of_items(model, model.item_tables, model.n_items).items()
    }
    return {
        name: (buffers[name], axis) for name, axis in {**tables, **axes}.items() if name in buffers
    }


def _dotted(path) -> str:
    return "".join(
        f".{getattr(key, 'name', getattr(key, 'key', getattr(key, 'idx', '')))}" for key in path
    )


@contextlib.contextmanager
def _as_exported(model):
    """Context in which no shape depends on the data, and no fused kernel hides operators."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with model.at_fixed_length():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def _exporter_errors(path: Path):
    try:
        yield
    except RuntimeError as error:  # torch.export and torch.onnx raise subclasses of it
        reason = first_line(error)
        raise UserError(
            f"{path.name}: torch cannot export the model: {reason}. Shapes in its encode must not "
            f"depend on the data when fixed_length is set; export without --onnx and --index"
        ) from error


@contextlib.contextmanager
def _quiet_export():
    """Context without the exporter's notes about itself."""
    loggers = {logging.getLogger(name): 0 for name in ("torch.onnx", "onnx_ir", "onnxscript")}
    for logger in loggers:
        loggers[logger] = logger.level
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)


class ServedModel:
    """The opened files of a model; computes what a server would, with onnxruntime only.

    Args:
        folder: folder of the files.
    """

    def __init__(self, folder):
        folder = Path(folder)
        with np.load(folder / ITEMS, allow_pickle=False) as file:
            self.arrays = dict(file)
        self.encoder, self.scorer = open_session(folder / ENCODER), open_session(folder / SCORER)

    def encode(self, batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """``user`` and, if there are any, ``added``; arguments by the names of the inputs."""
        return self.encoder.run(None, feed(self.encoder, {**self.arrays, **batch}))

    def score(self, user: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Scores ``(b, n)`` of all items, or of these rows, for users ``(b, d)``."""
        tables = feed(self.scorer, self.arrays)
        if rows is not None:
            tables = {name: table[rows] if table.ndim else table for name, table in tables.items()}
        return self.scorer.run(None, {"user": user, **tables})[0]

    def rank(self, batch: Mapping[str, np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` best items of each user and all scores, ``(b, k)`` and ``(b, n)``."""
        user, *added = self.encode(batch)
        score = self.score(user)
        if added:
            np.add.at(score, (np.arange(len(score))[:, None], batch["item_seq"]), added[0])
        score[:, ~self.arrays[RECOMMENDABLE]] = -np.inf
        return np.argsort(-score, axis=1, kind="stable")[:, :k], score
