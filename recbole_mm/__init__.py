"""Multi-modal sequential recommenders for RecBole 1.x.

Importing this package is cheap and makes the import of RecBole register our models: RecBole's own
``run_recbole``, ``HyperTuning`` and ``load_data_and_model`` then accept them by name
(:mod:`recbole_mm.integration.register`), and incompatibilities of RecBole with current versions of
numpy, pandas and torch are patched (:mod:`recbole_mm.integration.patches`).
"""

from recbole_mm.integration.door import open_door

open_door()

__version__ = "0.1.0"
