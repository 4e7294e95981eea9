"""Multi-modal sequential recommenders for RecBole 1.x.

Importing this package registers its models with RecBole: from then on RecBole's own
``run_recbole``, ``HyperTuning`` and ``load_data_and_model`` accept them by name
(:mod:`recbole_mm.register`), and what a current numpy, pandas or torch breaks in RecBole is
mended (:mod:`recbole_mm.compat`).
"""

from recbole_mm import compat

compat.mend_before_import()

from recbole_mm import register  # it imports RecBole, which needs the mends above

compat.mend_after_import()
register.register()

__version__ = "0.1.0"
