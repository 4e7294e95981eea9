"""Registration in RecBole, under the name that programs hold; see its room, ``integration``."""

from recbole_mm.config.models import MODELS
from recbole_mm.integration.register import multi_modal_dataset_for, register, register_model

__all__ = ["MODELS", "multi_modal_dataset_for", "register", "register_model"]
