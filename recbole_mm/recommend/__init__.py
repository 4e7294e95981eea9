"""From a trained model to recommendations: for any user, any history and new items.

.. code-block:: python

    from recbole_mm.recommend.recommender import Recommender

    recommender = Recommender.from_pretrained("saved/MMM4Rec-....pth")
    table = recommender.recommend("histories.csv", k=10)
"""
