"""JSON from external files."""

import json


def parse_json(text):
    """The value of a JSON text.

    Raises:
        ValueError: the text is not JSON, or nested too deeply for Python.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
