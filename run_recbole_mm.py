"""Train and test a recommender: ``python run_recbole_mm.py --model=MMM4Rec --dataset=demo``.

``--help`` lists the models, the data sets and the common options.
"""

import sys

from recbole_mm.cli import main

if __name__ == "__main__":
    sys.exit(main())
