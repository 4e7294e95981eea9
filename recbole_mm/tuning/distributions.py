"""A search space as distributions of Optuna."""

import itertools
import math
from collections.abc import Iterator

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from recbole_mm.config.kinds import is_number
from recbole_mm.tuning.search_space import multiple, multiples

Space = dict[str, dict[str, list]]
"""What :func:`~recbole_mm.tuning.search_space.read_search_space` returns."""


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """The distribution of each key.

    ``quniform low,high,step`` draws the multiples of the step between the ends. hyperopt draws
    multiples too, but it rounds to them, and may leave the range by half a step.
    """
    distributions: dict[str, BaseDistribution] = {}
    for kind, keys in space.items():
        for key, values in keys.items():
            if kind == "choice":
                distributions[key] = CategoricalDistribution(list(_choices(values)))
            elif kind == "quniform":
                low, high, step = values
                first, last = (multiple(n, step) for n in multiples(low, high, step))
                distributions[key] = FloatDistribution(first, last, step=step)
            elif kind == "uniform":
                distributions[key] = FloatDistribution(*values)
            else:
                low, high = map(math.exp, values)
                distributions[key] = FloatDistribution(low, high, log=True)
    return distributions


def to_point(params: dict, space: Space) -> dict:
    """The values that Optuna's parameters stand for."""
    choices = {key: _choices(values) for key, values in space.get("choice", {}).items()}
    steps = {key: values[2] for key, values in space.get("quniform", {}).items()}
    point = {}
    for key, value in params.items():
        if key in choices:
            point[key] = choices[key][value]
        elif key in steps:
            point[key] = multiple(round(value / steps[key]), steps[key])
        else:
            point[key] = value
    return point


def to_params(point: dict, space: Space) -> dict:
    """Optuna's parameters of a point, without those whose values it would not draw.

    The defaults of a model may be outside the search space.
    """
    distributions, choices = distributions_of(space), space.get("choice", {})
    params = {}
    for key, value in point.items():
        if key in choices:
            shown = [s for s, meant in _choices(choices[key]).items() if meant == value]
            params.update({key: shown[0]} if shown else {})
        elif is_number(value) and _contains(distributions[key], value):
            params[key] = float(value)
    return params


def grid(space: Space) -> Iterator[dict]:
    """Every point of a space of choices; none if the space has ranges."""
    if set(space) == {"choice"}:
        keys = space["choice"]
        for values in itertools.product(*keys.values()):
            yield dict(zip(keys, values, strict=True))


def _contains(distribution: BaseDistribution, value: float) -> bool:
    assert isinstance(distribution, FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    on_grid = step is None or math.isclose((value - low) / step, round((value - low) / step))
    return low <= value <= high and on_grid


def _choices(values: list) -> dict:
    """Values by the choice that Optuna stores: the value itself if it is plain, else its text."""
    plain = (bool, int, float, str, type(None))
    return {value if isinstance(value, plain) else repr(value): value for value in values}
