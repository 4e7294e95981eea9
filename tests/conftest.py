"""Fixtures for all tests; each test runs in an empty folder of its own."""

import contextlib
import os
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from fork_server import ADDRESS, FORKS, ForkServer

from recbole_mm.data.feature_files import feature_path, write_item_features

# the same few examples in every run; fixtures of a test are shared by its examples
hypothesis.settings.register_profile(
    "same",
    derandomize=True,
    deadline=None,
    max_examples=10,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
    ],
)
hypothesis.settings.load_profile("same")

REPOSITORY = Path(__file__).resolve().parents[1]

# workers of ray would wait for every other test on a busy machine
os.environ.setdefault("RAY_worker_niceness", "0")
# of commands in processes of their own, as for one_thread
os.environ.setdefault("OMP_NUM_THREADS", "1")

if sys.platform == "win32":
    collect_ignore = ["test_fuzz.py", "test_kills.py"]  # they fork, and limit memory


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path, monkeypatch):
    """RecBole writes to the working directory and reads the command line of its process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])


@pytest.fixture(autouse=True)
def only_tests_of_a_gpu_use_it(request, monkeypatch):
    """The others have CPU tensors of their own, and numbers of a CPU."""
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.fixture
def almost_full_disk():
    """A context in which files of this process end at 20,000 bytes.

    A context, because pytest writes its own report, which may be a longer file, inside a fixture.
    """
    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def limited():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny tensors are fastest on one thread, and the other cores run other tests."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def fork_server():
    """A process of which commands are forks; ``None`` on systems that do not fork."""
    if sys.platform == "win32":
        yield None
        return
    with ForkServer() as server:
        yield server


@pytest.fixture(scope="session")
def python(fork_server) -> list[str]:
    """The first words of a command of Python that has everything imported; for programs that have no
    need of an interpreter of their own."""
    if fork_server is None:
        return [sys.executable]
    return [sys.executable, "-S", str(REPOSITORY / "tests/fork_server.py"), fork_server.address]


@pytest.fixture
def forked_children(fork_server, monkeypatch):
    """The processes that a command starts and waits for import nothing."""
    if fork_server is not None:
        monkeypatch.setenv(ADDRESS, fork_server.address)
        monkeypatch.setattr("recbole_mm.tools.children.subprocess", FORKS)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Test vectors of the authors' implementations, as far as they are committed."""
    return REPOSITORY / "tests" / "golden"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real data and all test vectors, which are no part of the repository."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs real data in ../shared, which is not there")
    return folder


@pytest.fixture
def toy(tmp_path) -> dict:
    """A data set whose next item is always the following one on a circle of twelve.

    Returns:
        what a configuration needs to find it: ``dataset`` and ``data_path``.
    """
    n_items, n_users, length = 12, 40, 7
    folder = tmp_path / "dataset" / "toy"
    folder.mkdir(parents=True)
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(n_users):
        for step in range(length):
            rows.append(f"u{user}\ti{(user + step) % n_items}\t{1_400_000_000 + 86_400 * step}")
    (folder / "toy.inter").write_text("\n".join(rows) + "\n")
    angle = 2 * np.pi * np.arange(n_items) / n_items
    circle = np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], axis=1)
    tokens = [f"i{item}" for item in range(n_items)]
    for modality, width in (("text", 4), ("image", 3)):
        path = feature_path(folder, "toy", modality)
        write_item_features(path, tokens, circle[:, :width].astype(np.float32))
    return {"dataset": "toy", "data_path": str(folder.parent)}
