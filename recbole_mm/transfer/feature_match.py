"""Whether a pre-trained model was trained on the kind of features that it is to read.

Its adapters map the vectors of one encoder; those of another one, even of the same width, are
meaningless to them. Feature files state how they were made (:mod:`recbole_mm.data.feature_files`),
checkpoints and bundles record it, and for the authors' files it is known from their papers and
code.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from recbole_mm.data.domains import FACTS_OF_A_KIND

SAME = (
    {"openaiclipvitbasepatch32", "clipvitbasepatch32", "clipvitb32", "vitb32"},
    {"googlebertbertbaseuncased", "bertbaseuncased"},
    {"googlesiglipbasepatch16224", "siglipbasepatch16224"},
)
"""Groups of names of the same encoder, reduced to lower-case letters and digits."""

SHORTEST_HASH = 12

UNNAMED = "as in "
"""Prefix of the encoder of converted features; the name of the authors' file follows."""


class FeatureMatch(NamedTuple):
    """The features that a pre-trained model was trained on, compared with those that it is to read.

    Attributes:
        different: modality -> the differing facts of both sides, if its features differ.
        unknown: modality -> the encoders of both sides, if one of them is unknown.
    """

    different: dict[str, str]
    unknown: dict[str, str]


def match_features(known: Mapping | None, given: Mapping, modalities) -> FeatureMatch:
    """Compare how features were made.

    Args:
        known: features of the pre-trained model: modality -> ``info`` of its feature file; ``None``
            if not recorded.
        given: features of the data, in the same form.
        modalities: modalities that the model and the data have.
    """
    match = FeatureMatch({}, {})
    for modality in modalities:
        theirs, mine = (_info(infos, modality) for infos in (known, given))
        names = [_encoder(info) for info in (theirs, mine)]
        if None in names:
            match.unknown[modality] = " and ".join(
                f"{name or 'an unknown encoder'} {where}"
                for name, where in zip(names, ("in the checkpoint", "here"), strict=True)
            )
            continue
        facts = _differences(theirs, mine)
        if facts:
            match.different[modality] = ", ".join(facts)
    return match


def _info(infos: Mapping | None, modality: str) -> Mapping:
    info = (infos or {}).get(modality)
    return info if isinstance(info, Mapping) else {}


def _encoder(info: Mapping) -> str | None:
    name = info.get("encoder")
    named = isinstance(name, str) and name not in ("", "unknown") and not name.startswith(UNNAMED)
    return repr(name) if named else None


def _differences(theirs: Mapping, mine: Mapping) -> list[str]:
    facts = []
    for fact in FACTS_OF_A_KIND:
        values = theirs.get(fact), mine.get(fact)
        if None in values or "unknown" in values or values[0] == values[1]:
            continue
        if fact != "encoder" or not (
            _same_revision(theirs, mine) or _same_encoder(*map(str, values))
        ):
            facts.append(f"{fact} {values[0]!r} in the checkpoint, {values[1]!r} here")
    if not facts and mine.get("encoder") == "embedded" and not _same_space(theirs, mine):
        facts.append(
            "embedded extractor in another space: the data sets were not extracted together"
        )
    return facts


def _same_revision(theirs: Mapping, mine: Mapping) -> bool:
    """Whether both record the same commit or hash of weights: the encoder is then the same under
    two names, such as two folders."""
    revision = theirs.get("revision")
    return (
        isinstance(revision, str)
        and len(revision) >= SHORTEST_HASH
        and revision == mine.get("revision")
    )


def _same_encoder(first: str, second: str) -> bool:
    names = [
        {_plain(name), _plain(name.replace("\\", "/").rpartition("/")[2])}
        for name in (first, second)
    ]
    return any(names[0] & group and names[1] & group for group in SAME)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _same_space(theirs: Mapping, mine: Mapping) -> bool:
    """Whether both have the same space of the embedded extractor, which depends on the texts and
    pictures that it was fitted to."""
    facts = ("space",) if "space" in theirs and "space" in mine else ("shared_with",)
    return all(theirs.get(fact) == mine.get(fact) for fact in facts)
