r"""Valid values of a key: the form named by the comment on its line in a yaml file.

A line of a property file is ``key: default  # (FORM) What the key does.``, for example::

    n_experts: 8          # (int, >= 1) Whitening experts per modality.
    dropout_prob: 0.2     # (float, >= 0, < 1) Dropout on the outputs of blocks.
    loss_positions: last  # (one of: last, all) Positions of the loss.
    modalities: ~         # (modalities) Feature files to read; ~ takes all.

The grammar::

    FORM         ALTERNATIVE [or ALTERNATIVE ...]
    ALTERNATIVE  KIND [, LIMIT ...] | one of: WORD [, WORD ...]
    KIND         bool | int | float | str | list | dict | None
                 | interval | values | columns | encoding | split | ranking | modalities
                 | list of KIND | dict of KIND
    LIMIT        > N | >= N | < N | <= N | even       of a number, or of each in a list or dict
                 | not empty                          of a list or a string
                 | required                           of a field
                 | may be partial                     of a dict: it is laid over the default

A ``float`` is a finite number and may be whole; an ``int`` is a whole number. A ``dict`` whose line
is followed by indented lines with their own forms has these fields and no others. A key whose
default is ``~`` may be ``~``. A key without a form in its comment has the form of its default.
"""

import operator
import re
from collections.abc import Callable
from typing import Any

from recbole_mm.config.kinds import ANYTHING, KINDS, Form
from recbole_mm.tools.names import nearest

SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


class FormError(ValueError):
    """A text that is not a form."""


def parse_form(text: str, fields: dict[str, Form] | None = None) -> Form:
    """Parse a form, see the module's docstring.

    Args:
        text: text in the parentheses of a comment.
        fields: forms of the indented lines below the key.

    Raises:
        FormError: the text does not follow the grammar.
    """
    parts = re.split(r",?\s+or\s+", text.strip())
    return either([_parse_alternative(part, fields) for part in parts])


def form_of_default(default) -> Form:
    """The form of a key without one in its comment."""
    name = type(default).__name__
    return KINDS[name] if name in ("bool", "int", "float", "str", "list", "dict") else ANYTHING


def fault(form: Form, value) -> str | None:
    """A description of what is wrong with a value, to follow it in a message; ``None`` if valid."""
    if form.fields is None or not isinstance(value, dict):
        return None if form.accepts(value) else f"it must be {form.words}"
    for name, field in form.fields.items():
        if field.required and name not in value:
            return f"{name!r} is missing in it; it must be {field.words}"
    for name, inner in value.items():
        wrong = _fault_of_field(form.fields, name, inner)
        if wrong:
            return wrong
    return None


def lay_over(form: Form | None, value, default):
    """A value, completed by the default if its form may be partial."""
    mappings = isinstance(value, dict) and isinstance(default, dict)
    return {**default, **value} if form and form.partial and mappings else value


def either(forms: list[Form]) -> Form:
    """The union of these forms."""
    mapping = next((form for form in forms if form.fields or form.partial), forms[0])
    return mapping._replace(
        words=" or ".join(form.words for form in forms),
        plural=" or ".join(form.plural for form in forms),
        accepts=lambda value: any(form.accepts(value) for form in forms),
    )


def _fault_of_field(fields: dict[str, Form], name, value) -> str | None:
    if name in fields:
        wrong = fault(fields[name], value)
        return wrong and f"{name!r} in it is {value!r}; {wrong}"
    near = nearest(str(name), fields)
    hint = f"did you mean {near[0]!r}?" if near else f"it has the keys {', '.join(fields)}"
    return f"{name!r} in it is unknown; {hint}"


def _parse_alternative(text: str, fields: dict[str, Form] | None) -> Form:
    head, colon, words = text.partition("one of:")
    if colon and not head:
        return _one_of([word.strip() for word in words.split(",")])
    kind, *limits = [part.strip() for part in text.split(",")]
    form = _parse_kind(kind, [limit for limit in limits if limit not in MARKS])
    if kind == "dict" and fields:
        form = form._replace(words=f"a mapping with the keys {', '.join(fields)}", fields=fields)
    for limit in limits:
        form = MARKS[limit](form) if limit in MARKS else form
    return form


def _parse_kind(kind: str, limits: list[str]) -> Form:
    for prefix, container in CONTAINERS.items():
        if kind.startswith(prefix):
            return container(_parse_kind(kind.removeprefix(prefix), limits))
    if kind not in KINDS:
        raise FormError(f"{kind!r} is not a kind of value")
    if limits and kind not in ("int", "float"):
        raise FormError(f"{limits[0]!r} is not a limit of {kind!r}")
    return _limited(KINDS[kind], limits) if limits else KINDS[kind]


def _limited(form: Form, limits: list[str]) -> Form:
    """Numbers within all limits."""
    words, tests = " and ".join(limits), [_parse_limit(limit) for limit in limits]
    return Form(
        f"{form.words} {words}",
        f"{form.plural} {words}",
        lambda value: form.accepts(value) and all(test(value) for test in tests),
    )


def _parse_limit(text: str) -> Callable[[Any], bool]:
    if text == "even":
        return lambda value: value % 2 == 0
    sign, _, bound = text.partition(" ")
    try:
        compare, number = SIGNS[sign], float(bound)
    except (KeyError, ValueError):
        raise FormError(f"{text!r} is not a limit") from None
    return lambda value: compare(value, number)


def _one_of(words: list[str]) -> Form:
    if not all(words):
        raise FormError("'one of:' needs words")
    listing = f"one of {', '.join(words)}" if len(words) > 1 else words[0]
    return Form(listing, listing, lambda value: isinstance(value, str) and value in words)


def _list_of(form: Form) -> Form:
    return Form(
        f"a list of {form.plural}",
        f"lists of {form.plural}",
        lambda value: isinstance(value, list) and all(map(form.accepts, value)),
    )


def _dict_of(form: Form) -> Form:
    def accepts(value) -> bool:
        names_are_text = isinstance(value, dict) and all(isinstance(name, str) for name in value)
        return names_are_text and all(map(form.accepts, value.values()))

    words = f"{{name: value}} with {form.plural} as values"
    return Form(f"a mapping {words}", f"mappings {words}", accepts)


def _not_empty(form: Form) -> Form:
    return form._replace(
        words=f"a non-empty {form.words.removeprefix('a ')}",
        accepts=lambda value: form.accepts(value) and value not in ([], ""),
    )


CONTAINERS = {"list of ": _list_of, "dict of ": _dict_of}
MARKS = {
    "not empty": _not_empty,
    "required": lambda form: form._replace(required=True),
    "may be partial": lambda form: form._replace(partial=True),
}
