"""Train and test a recommender: ``python run_recbole_mm.py --model=MMM4Rec --dataset=demo``.

``--help`` lists the models, the data sets and the common options.
"""

from recbole_mm.__main__ import run

if __name__ == "__main__":
    run()
