"""Registration in RecBole, in the module that programs import; implemented in ``integration``."""

from recbole_mm.config.models import MODELS
from recbole_mm.integration.register import multi_modal_dataset_for, register, register_model

__all__ = ["MODELS", "multi_modal_dataset_for", "register", "register_model"]
