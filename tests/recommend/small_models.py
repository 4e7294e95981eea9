"""Every model with settings at which it trains in a moment; one that is not here fails a test."""

from tiny import TINY, TINY_HSTU, TINY_MMM4REC

SMALL = {
    "MMM4Rec": TINY_MMM4REC,
    "MMM4Rec-time": {**TINY_MMM4REC, "use_time": True},
    "MISSRec": {**TINY, "n_heads": 2},
    "HSTU": {**TINY_HSTU, "n_heads": 2, "modalities": ["text", "image"]},
    "SASRecPlus": {**TINY, "n_heads": 2, "modalities": ["text", "image"]},
    "SASRecPlus-neighbors": {
        **TINY,
        "n_heads": 2,
        "modalities": ["text", "image"],
        "neighbor_scores": True,
        "neighbor_dimension": 4,
    },
    "MISSRec-neighbors": {**TINY, "n_heads": 2, "neighbor_scores": True},
    "UniSRec": {**TINY, "n_heads": 2, "n_experts": 2},
    "UniSRec-repeats": {**TINY, "n_heads": 2, "n_experts": 2, "repeat_propensity": "recency"},
}
