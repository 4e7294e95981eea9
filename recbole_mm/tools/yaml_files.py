"""yaml as plain data: numbers, strings, booleans, None, lists and mappings of these.

The only reader of yaml, for files and for command-line options. Reading any text runs no code and
takes bounded time and memory: only tags of plain data, at most :data:`MOST_BYTES`,
:data:`MOST_LEVELS` of nesting, and :data:`MOST_VALUES` after aliases are expanded.
"""

import re

import yaml
from yaml.reader import ReaderError

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.text_files import read_text

MOST_BYTES = 200_000
"""Maximum size of a file."""

MOST_LEVELS = 50
"""Maximum depth of nested lists and mappings."""

MOST_VALUES = 100_000
"""Maximum number of values in a file after its aliases are expanded."""

PLAIN_TAGS = ("null", "bool", "int", "float", "str", "seq", "map")


class YamlFileError(UserError):
    """A yaml file that cannot be read; the message names the file and, where known, the line."""


class _Loader(yaml.SafeLoader):
    """Plain values only; reads ``1e-3`` as a number, unlike YAML 1.1, and a date as text."""


_SAFE = yaml.SafeLoader
_Loader.yaml_constructors = {
    tag: _SAFE.yaml_constructors[tag]
    for tag in (None, *(f"tag:yaml.org,2002:{name}" for name in PLAIN_TAGS))
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _SAFE.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(path) -> dict:
    """The mapping in a yaml file; empty for an empty file.

    Raises:
        YamlFileError: the file cannot be read, is not UTF-8 or not yaml, is not a mapping, has a
            duplicate key, or is too large or too deep.
    """
    try:
        values = load_yaml(read_yaml_text(path))
    except yaml.YAMLError as error:
        raise YamlFileError(f"{str(path)!r} cannot be read as yaml: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise YamlFileError(f"{str(path)!r} has no `key: value` lines")
    return values


def read_yaml_text(path) -> str:
    """The text of a yaml file.

    Raises:
        YamlFileError: the file cannot be read, is not UTF-8, or is too large.
    """
    return read_text(path, YamlFileError, MOST_BYTES)


def load_yaml(text: str):
    """The value of a yaml text.

    Raises:
        yaml.YAMLError: the text is not yaml, not plain, has a duplicate key, or is too large or too
            deep; the message is one line.
    """
    try:
        _refuse_deep_nesting(text)
        return _construct(_Loader(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        raise yaml.YAMLError(f"{place}{error.problem or error.context}") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise yaml.YAMLError(f"line {line}: the character {chr(error.character)!r}") from None
    except (ValueError, OverflowError) as error:  # an integer of thousands of digits
        raise yaml.YAMLError(str(error)) from None


def _construct(loader: _Loader):
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_repeated_keys(node)
        _refuse_expansion(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_deep_nesting(text: str) -> None:
    """Check the depth before the nodes are composed, which recurses."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS and event.start_mark:
            raise yaml.YAMLError(
                f"line {event.start_mark.line + 1}: more than {MOST_LEVELS} levels of nesting"
            )


def _refuse_repeated_keys(node: yaml.Node) -> None:
    """Refuse duplicate keys, of which yaml silently keeps the last."""
    for mapping in _nodes_once(node):
        if not isinstance(mapping, yaml.MappingNode):
            continue
        lines: dict[str, int] = {}
        for key, _ in mapping.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines and isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(
                    f"the key {name!r} is in line {lines[name]} and again in line {line}; keep one "
                    f"of them"
                )
            lines[name] = line


def _refuse_expansion(root: yaml.Node) -> None:
    """Refuse too many values after expansion of aliases: a few hundred bytes can mean billions."""
    sizes: dict[int, int | None] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = None
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
        known = sizes[id(node)]
        if known is None or known > MOST_VALUES:
            what = "an alias of itself" if known is None else f"more than {MOST_VALUES:,} values"
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {what}")
        return known

    size(root)


def _nodes_once(root: yaml.Node):
    """Yield every node once, regardless of its number of aliases."""
    seen, rest = set(), [root]
    while rest:
        node = rest.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            rest += _children(node)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
