"""The columns of a prepared data set, their types in RecBole's files, and the units of times."""

ITEM_FIELDS = ("title", "brand", "categories", "description", "image")
TEXT_FIELDS = ("title", "brand", "categories", "description")
FIELD_TYPES = {
    "user_id": "token",
    "item_id": "token",
    "rating": "float",
    "timestamp": "float",
    "title": "token_seq",
    "brand": "token",
    "categories": "token_seq",
    "description": "token_seq",
    "image": "token",
}
SECONDS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
