import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.run.run import Run
from recbole_mm.tools import processes
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.variables import is_one_of_several

SMALL = {
    "hidden_size": 16,
    "inner_size": 16,
    "epochs": 4,
    "show_progress": False,
    "hidden_dropout_prob": 0.0,
    "metric_decimal_place": 10,
    "use_gpu": False,
}
MODELS = {
    "MMM4Rec": {
        "head_dim": 8,
        "d_state": 4,
        "n_groups": 2,
        "embedding_dropout_prob": 0.0,
        "time_dropout_prob": 0.0,
    },
    # a penalty that is summed over the rows of a process is not the mean over all
    "MISSRec": {"n_heads": 2, "reg_weight": 0.0},
}
STAGES = {
    "finetune": {},
    "pretrain": {"train_stage": "pretrain", "softmax": "in_batch", "use_item_id": False},
}
ADDRESSES = ("10.99.0.1", "10.99.0.2")  # of two nodes
WORKER = """
import json, sys
from pathlib import Path
from recbole_mm.tools import processes
processes.start()
from tests.tools.test_processes import curve
result = curve(*json.loads(sys.argv[1]))
if processes.is_first():
    Path("curve.json").write_text(json.dumps(result))
processes.stop()
"""


def curve(model, settings):
    """Losses and validation scores of all epochs, and the test result."""
    prepared = Run(load_config(model, None, (), settings))
    prepared.train(verbose=False)
    result = prepared.test()
    scores = [entry["valid_score"] for entry in result.history]
    return {
        "losses": list(prepared.trainer.train_loss_dict.values()),
        "scores": scores,
        "test": dict(result.test_result),
    }


def torchrun(repository, python, *command):
    launcher = [*python, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(repository),
    }
    done = subprocess.run(
        [*launcher, "--master_port=0", "--standalone", "--no_python", *python, *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.slow
@pytest.mark.parametrize("model, stage", [("MMM4Rec", "pretrain"), ("MISSRec", "finetune")])
def test_two_processes_are_one_with_the_double_batch(
    model, stage, toy, tmp_path, repository, python
):
    # the last batch is smaller than the others
    settings = {**toy, **SMALL, **MODELS[model], **STAGES[stage], "checkpoint_dir": "two"}
    (tmp_path / "worker.py").write_text(WORKER)
    two = {**settings, "train_batch_size": 26, "length_group_size": 0}
    torchrun(repository, python, "worker.py", json.dumps([model, two]))
    both = json.loads((tmp_path / "curve.json").read_text())

    single = curve(model, {**two, "train_batch_size": 52, "checkpoint_dir": "single"})

    assert_close(both["losses"], single["losses"], atol=0, rtol=1e-5)
    assert both["scores"] == single["scores"]
    assert both["test"] == single["test"]
    assert len(list(Path("two").glob("*.pth"))) == 1


@pytest.mark.slow
def test_the_command_runs_stages_under_torchrun(toy, repository, python):
    stages = [STAGES["pretrain"], {"freeze": ["encoder_layers.*"]}]
    common = {"model": "MMM4Rec", **toy, **SMALL, **MODELS["MMM4Rec"], "stages": stages}
    Path("transfer.yaml").write_text(yaml.safe_dump(common))
    command = ["-m", "recbole_mm", "--config_files=transfer.yaml"]

    first = torchrun(repository, python, *command)
    again = torchrun(repository, python, *command)

    assert len(list(Path("saved").glob("*.json"))) == 2
    assert first.stdout.count("finetune on toy") == 1
    assert "finetune on toy" not in first.stderr
    assert "deprecated" not in first.stdout + first.stderr
    assert "is finished" in again.stdout + again.stderr


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def connect(nodes):
    """Make two namespaces that reach each other by ADDRESSES and nothing else."""
    ends = [f"rmm{os.getpid()}{end}" for end in "ab"]
    for node in nodes:
        ip("netns", "add", node)
    ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
    for node, end, address in zip(nodes, ends, ADDRESSES, strict=True):
        ip("link", "set", end, "netns", node)
        ip("-n", node, "link", "set", end, "name", "cable")
        ip("-n", node, "addr", "add", f"{address}/24", "dev", "cable")
        for device in ("lo", "cable"):
            ip("-n", node, "link", "set", device, "up")


@pytest.fixture
def nodes():
    names = [f"recbole-mm-{os.getpid()}-{n}" for n in (0, 1)]
    try:
        connect(names)
        yield names
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces need Linux, iproute2 and root")
    finally:
        for name in names:
            if Path("/run/netns", name).exists():
                ip("netns", "del", name)


def start_on(node, rank, repository, *command):
    launcher = ["torch.distributed.run", "--nnodes=2", f"--node_rank={rank}", "--nproc_per_node=1"]
    rendezvous = [f"--master_addr={ADDRESSES[0]}", "--master_port=29500"]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    return subprocess.Popen(
        ["ip", "netns", "exec", node, sys.executable, "-m", *launcher, *rendezvous, *command],
        env={**os.environ, **environment, "GLOO_SOCKET_IFNAME": "cable"},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_run_on_two_nodes_with_a_shared_folder_is_that_of_two_processes_on_one(
    nodes, repository, python, toy, tmp_path
):
    (tmp_path / "worker.py").write_text(WORKER)
    settings = {**toy, **SMALL, **MODELS["MMM4Rec"], "checkpoint_dir": "shared"}
    command = ["worker.py", json.dumps(["MMM4Rec", settings])]

    started = [start_on(node, rank, repository, *command) for rank, node in enumerate(nodes)]
    for process in started:
        _, messages = process.communicate(timeout=300)
        assert process.returncode == 0, messages[-3000:]
    apart = json.loads((tmp_path / "curve.json").read_text())
    assert len(list(Path("shared").glob("*.pth"))) == 1

    torchrun(repository, python, *command)
    assert json.loads((tmp_path / "curve.json").read_text()) == apart


def test_one_process_is_a_group_of_one():
    processes.start()
    assert (processes.size(), processes.rank(), processes.is_first()) == (1, 0, True)
    assert processes.of_all("x") == ["x"] and processes.of_first("x") == "x"
    processes.stop()


@pytest.mark.parametrize(
    ("variables", "is_one"),
    [
        ({}, False),
        ({"WORLD_SIZE": "2"}, False),  # of a container in a cluster
        ({"WORLD_SIZE": "2", "LOCAL_RANK": ""}, False),
        ({"WORLD_SIZE": "", "LOCAL_RANK": "0"}, False),
        ({"WORLD_SIZE": "1", "LOCAL_RANK": "0"}, False),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, True),
    ],
)
def test_only_what_torchrun_starts_beside_others_is_one_of_several(variables, is_one, monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert is_one_of_several() == is_one
    if not is_one:
        processes.start()
        assert processes.size() == 1


@pytest.mark.parametrize(
    ("local_rank", "message"), [("0", "variable RANK expected"), ("a", "int.. with base 10: 'a'")]
)
def test_variables_that_torchrun_did_not_set_are_an_error_of_the_user(
    local_rank, message, monkeypatch
):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", local_rank)

    with pytest.raises(UserError, match=f"start all by torchrun, or unset LOCAL_RANK: .*{message}"):
        processes.start()


def test_a_batch_of_fewer_examples_than_processes_is_repeated():
    shares = [processes._collate_share(list, rank, 3, [7, 8]) for rank in range(3)]
    assert sorted(shares[0] + shares[1] + shares[2]) == [7, 7, 7, 8, 8, 8]
    assert {len(share) for share in shares} == {2}
