"""Clusterings equal their definitions; only present modalities have interests."""

import pytest
import torch
from torch.testing import assert_close

from recbole_mm.model.layers import interest
from recbole_mm.model.layers.interest import (
    Clustering,
    Interests,
    assign,
    cluster_means,
    dpc_knn,
    first_occurrences,
    interest_regularizer,
    kmeans,
    unique_rows,
)


def blobs(n_blobs=4, size=6, d=5):
    """Well separated groups, and the group of each vector."""
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(n_blobs).repeat(size)
    centers = 20 * torch.randn(n_blobs, d, generator=generator)
    return centers[group] + 0.1 * torch.randn(len(group), d, generator=generator), group


def same_partition(a, b) -> bool:
    return bool(((a[:, None] == a) == (b[:, None] == b)).all())


def test_kmeans_uses_as_few_threads_as_reproducible_sums_need(monkeypatch):
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_info, threadpool_limits

    threads, fit = [], KMeans.fit

    def spied(self, *args, **kwargs):
        threads.extend(p["num_threads"] for p in threadpool_info() if p["user_api"] == "openmp")
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(KMeans, "fit", spied)
    with threadpool_limits(4, "openmp"):
        kmeans(blobs()[0], 4)

    assert threads and max(threads) <= 2


CLUSTERINGS = [kmeans, dpc_knn]


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_separate_groups_are_found(clustering):
    vectors, group = blobs()
    init = vectors[:4] if clustering is kmeans else None

    centroids, assignment = clustering(vectors, 4, init)

    assert same_partition(assignment, group)
    assert_close(
        centroids[assignment[:4]], cluster_means(vectors, group, vectors[:4]), atol=1e-2, rtol=0
    )


@pytest.mark.parametrize("clustering", CLUSTERINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_centroids_have_the_dtype_of_the_vectors(clustering, dtype):
    centroids, assignment = clustering(blobs()[0].to(dtype), 3)

    assert centroids.dtype == dtype and centroids.shape == (3, 5)
    assert assignment.dtype == torch.int64 and len(assignment) == 24


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_one_cluster_is_the_mean_and_n_clusters_are_the_vectors(clustering):
    vectors, _ = blobs()

    single, n = clustering(vectors, 1), clustering(vectors, len(vectors))

    assert_close(single.centroids, vectors.mean(0, keepdim=True), atol=1e-3, rtol=0)
    assert_close(n.centroids[n.assignment], vectors, atol=1e-2, rtol=0)
    assert n.assignment.sort().values.tolist() == list(range(len(vectors)))


@pytest.mark.parametrize("clustering", CLUSTERINGS)
@pytest.mark.parametrize("k", [0, 25])
def test_a_number_of_clusters_out_of_range_is_refused(clustering, k):
    with pytest.raises(ValueError, match=rf"{k} interests cannot be made of 24 item vectors"):
        clustering(blobs()[0], k)


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_vectors_that_are_not_finite_are_refused(clustering):
    vectors, _ = blobs()
    vectors[3, 2] = torch.nan

    with pytest.raises(ValueError, match="1 of 24 item embeddings are not finite"):
        clustering(vectors, 2)


def test_kmeans_assigns_every_vector_to_its_nearest_centroid():
    vectors = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))

    centroids, assignment = kmeans(vectors, 30, max_iter=2)

    assert torch.equal(assignment, torch.cdist(vectors, centroids).argmin(dim=1))
    assert len(assignment.unique()) == 30


def test_kmeans_does_not_warn_of_fewer_distinct_vectors_than_clusters(recwarn):
    kmeans(torch.ones(5, 2), 3)

    assert not recwarn.list


def test_kmeans_does_not_change_the_vectors():
    vectors, _ = blobs()
    before = vectors.clone()

    kmeans(vectors, 4)

    assert torch.equal(vectors, before)


def test_assignment_by_blocks_is_the_nearest_centroid(monkeypatch):
    monkeypatch.setattr(interest, "DISTANCES_PER_BLOCK", 7 * 9)
    vectors, centroids = torch.randn(40, 3).double(), torch.randn(9, 3).double()

    assert torch.equal(assign(vectors, centroids), torch.cdist(vectors, centroids).argmin(dim=1))


def test_density_peaks_do_not_depend_on_the_size_of_a_block(monkeypatch):
    vectors = torch.randn(40, 3).double()
    whole = dpc_knn(vectors, 6)
    monkeypatch.setattr(interest, "DISTANCES_PER_BLOCK", 7 * 40)

    blocks = dpc_knn(vectors, 6)

    assert torch.equal(whole.assignment, blocks.assignment)
    assert_close(whole.centroids, blocks.centroids)


def test_the_mean_of_an_empty_cluster_is_its_previous_row():
    vectors, kept = torch.tensor([[1.0], [3.0]]), torch.tensor([[7.0], [8.0]])

    assert cluster_means(vectors, torch.tensor([1, 1]), kept).tolist() == [[7.0], [2.0]]


# tables


def first_vectors(vectors, k, _init):
    """A predictable clustering: vector i belongs to cluster i modulo k."""
    assignment = torch.arange(len(vectors)) % k
    return Clustering(cluster_means(vectors, assignment, vectors[:k]), assignment)


PRESENT = torch.tensor([[False, True, True, True], [False, True, False, True]])


def test_only_present_modalities_have_an_interest():
    tables = Interests(PRESENT, 3, hidden_size=2)
    vectors = torch.arange(16.0).view(2, 4, 2)

    tables.update(vectors, first_vectors)

    assert (tables.lookup > 0).equal(PRESENT)
    assert tables.lookup.tolist() == [[0, 1, 2, 3], [0, 1, 0, 2]]
    assert tables.embeddings[0].tolist() == [0, 0]
    assert_close(tables.embeddings[1], (vectors[0, 1] + vectors[1, 1]) / 2)


def test_a_clustering_starts_from_the_present_means_of_the_last_one():
    seen = []

    def record(vectors, k, init):
        seen.append(init)
        return first_vectors(vectors, k, init)

    tables = Interests(PRESENT, 3, hidden_size=2)
    vectors = torch.randn(2, 4, 2)
    tables.update(vectors, record)
    tables.update(vectors + 1, record)

    assert seen[0] is None
    assert_close(seen[1], tables.embeddings[1:])


def test_tables_belong_to_the_checkpoint_and_are_filled_when_loaded():
    tables, other = (Interests(PRESENT, 3, hidden_size=2) for _ in range(2))
    assert not tables.filled
    tables.update(torch.randn(2, 4, 2), first_vectors)

    other.load_state_dict(tables.state_dict())

    assert set(tables.state_dict()) == {"lookup", "embeddings"}
    assert other.filled and torch.equal(other.lookup, tables.lookup)


@pytest.mark.parametrize("k", [0, 6])
def test_a_number_of_interests_out_of_range_is_refused(k):
    with pytest.raises(ValueError, match=rf"{k} interests cannot be made of 5 item vectors"):
        Interests(PRESENT, k, hidden_size=2)


def test_interests_need_some_features():
    with pytest.raises(ValueError, match="of 0 item vectors"):
        Interests(torch.zeros(2, 4, dtype=torch.bool), 1, hidden_size=2)


# unique interests


@pytest.mark.parametrize("shape", [(1, 1), (4, 7), (30, 12)])
def test_unique_ids_equal_those_of_a_loop_over_the_rows(shape):
    ids = torch.randint(0, 6, shape, generator=torch.Generator().manual_seed(2))

    unique, count = unique_rows(ids)

    for row, found, n in zip(ids, unique, count, strict=True):
        expected = row[row > 0].unique().tolist()
        assert found.tolist() == expected + [0] * (unique.shape[1] - len(expected))
        assert n == len(expected)


def test_a_row_without_any_id_is_a_row_of_padding():
    unique, count = unique_rows(torch.zeros(2, 3, dtype=torch.long))

    assert unique.tolist() == [[0], [0]] and count.tolist() == [0, 0]


# regularizer


def test_ids_stay_where_they_occur_first():
    event = torch.tensor([0, 1, 2, 0, 1, 2])
    ids = torch.tensor([[4, 3, 3, 3, 3, 5], [0, 2, 7, 0, 7, 2], [1, 1, 1, 1, 1, 1]])

    assert first_occurrences(ids, event).tolist() == [
        [4, 0, 0, 3, 0, 5],
        [0, 2, 0, 0, 7, 0],
        [1, 0, 0, 0, 0, 0],
    ]


def test_the_regularizer_is_the_squared_sum_over_interests_and_padding():
    torch.manual_seed(0)
    width, count, d = 6, torch.tensor([6, 4, 0]), 3
    memory = torch.randn(3, width, d).double()
    padding = torch.randn(3, 1, d).double()
    is_padding = torch.arange(width) >= count.unsqueeze(1)
    memory = torch.where(is_padding.unsqueeze(-1), padding, memory)

    share = (~is_padding).double().mean(1)[:, None, None]
    expected = (memory * share).sum(1).square().sum() / d
    summed = (memory * ~is_padding.unsqueeze(-1)).sum(1)
    got = interest_regularizer(summed, count, torch.tensor(width), (padding[:, 0],) * 2)

    assert_close(got, expected)
    without = interest_regularizer(summed, count, torch.tensor(width))
    assert_close(without, (summed * share[:, 0]).square().sum() / d)


def test_two_padded_positions_represent_all_in_expectation():
    generator = torch.Generator().manual_seed(0)
    n_draws, n_padded, d = 100_000, 5, 4
    summed, mean = torch.randn(2, d, generator=generator).double()
    noise = torch.randn(n_draws, n_padded, d, generator=generator).double()
    memory = mean + noise
    count, width = torch.full((n_draws,), 2), torch.tensor(2 + n_padded)

    every_one = ((summed + memory.sum(1)) * (2 / 7)).square().sum() / d / n_draws
    two = interest_regularizer(
        summed.expand(n_draws, d), count, width, (memory[:, 0], memory[:, 1])
    )

    assert_close(two / n_draws, every_one, rtol=0.02, atol=0)


def test_what_is_taken_from_items_is_not_clustered_again():
    present = torch.tensor([[0, 1, 1, 1], [0, 1, 1, 0]]).bool()
    interests = Interests(present, 2, 3)
    interests.lookup = torch.tensor([[0, 1, 1, 2], [0, 2, 2, 0]])

    interests.permute_items(torch.tensor([0, 3, 1, 2]))
    interests.keep_modalities(torch.tensor([False, True]))

    assert interests.present.tolist() == [[False] * 4, [False, False, True, True]]
    assert interests.lookup.tolist() == [[0, 0, 0, 0], [0, 0, 2, 2]]
    interests.update(torch.randn(2, 4, 3), kmeans)
    assert (interests.lookup > 0).equal(interests.present)
    assert present.sum() == 5  # of the caller
