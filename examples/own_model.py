"""Your own model: it recommends what resembles the mean of a user's latest items.

    recbole-mm --model=own_model:RecentMean --dataset=demo
    recbole-mm compare --models=own_model:RecentMean,MMM4Rec --dataset=demo

Run these in this folder. Its own keys and their allowed values are in RecentMean.yaml.
"""

import torch
import torch.nn.functional as F
from torch import nn

from recbole_mm.model.abstract_recommender import MultiModalRecommender, take
from recbole_mm.model.layers.softmax import dot_products


class RecentMean(MultiModalRecommender):
    domain_parameters = ("item_embedding.*",)  # belong to one data set, are not transferred
    encoder_parameters = ("output.*",)  # frozen by recbole-mm transfer-report

    def __init__(self, config, dataset):
        super().__init__(config, dataset)  # features, their adapters, the loss
        self.n_recent, self.temperature = config["n_recent"], config["temperature"]
        self.output = nn.Linear(self.hidden_size, self.hidden_size)
        if self.use_item_id:
            self.item_embedding = nn.Embedding(self.n_items, self.hidden_size)

    def embed_items(self, item_id=None):  # everything computed once per item, (n, hidden_size)
        items = sum(self.adapt(modality, item_id) for modality in self.modalities)
        return (
            items + self.id_rows(self.item_embedding.weight, item_id) if self.use_item_id else items
        )

    def encode(self, interaction, items=None, rows=None):  # users as vectors, (b, hidden_size)
        items = self.all_items() if items is None else items
        rows = interaction[self.ITEM_SEQ] if rows is None else rows
        end = interaction[self.ITEM_SEQ_LEN].unsqueeze(1)
        position = torch.arange(rows.shape[1], device=rows.device)
        recent = ((position < end) & (position >= end - self.n_recent)).unsqueeze(-1)
        return self.output((F.embedding(rows, items) * recent).sum(1) / recent.sum(1))

    def scores(self, items):  # the same function in the loss and in the ranking
        return dot_products(F.normalize(items, dim=-1) / self.temperature)

    def candidate_rows(self, items, rows):
        return take(items, rows)
