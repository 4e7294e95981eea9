"""What belongs to one operating system is in the module that guards it, and nothing needs it elsewhere."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest

OF_ONE_SYSTEM = {
    "curses", "fcntl", "grp", "msvcrt", "posix", "pty", "pwd", "readline", "resource", "syslog",
    "termios", "tty", "winreg",
}  # fmt: skip
GUARDED = {
    ("fcntl", "tools/locks.py"),
    ("msvcrt", "tools/locks.py"),
    ("resource", "tools/memory.py"),
    ("ctypes", "tools/memory.py"),
}
"""Modules of one system, the C library among them, and who may import them."""
FUNCTIONS_OF_ONE_SYSTEM = re.compile(
    r"os\.(fork\w*|kill|killpg|rename|renames|getuid|geteuid|setsid|mkfifo|uname|sysconf|sched_\w+|getloadavg|"
    r"symlink|chown|O_DIRECTORY|O_NOFOLLOW|wait\w*)"
    r"|signal\.(SIGKILL|SIGALRM|SIGHUP|SIGUSR[12]|alarm|setitimer)"
)
KEYWORDS_OF_ONE_SYSTEM = re.compile("pass_fds|preexec_fn|start_new_session|process_group")
FOLDERS_OF_ONE_SYSTEM = re.compile(r"/(tmp|proc|dev|etc|usr|bin|var)(/.*)?")


def sources(repository):
    package = repository / "recbole_mm"
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield path.relative_to(package).as_posix(), ast.parse(text)


def imports(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def of_one_system(tree: ast.AST):
    """Functions, keywords and folders that only some systems have."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text, pattern = "", FOLDERS_OF_ONE_SYSTEM
        if isinstance(node, ast.Attribute):
            text, pattern = ast.unparse(node), FUNCTIONS_OF_ONE_SYSTEM
        elif isinstance(node, ast.keyword):
            text, pattern = node.arg or "", KEYWORDS_OF_ONE_SYSTEM
        elif isinstance(node, ast.Constant) and id(node) not in documentation:
            text = node.value if isinstance(node.value, str) else ""
        if pattern.fullmatch(text):
            yield text


def test_modules_of_one_system_are_imported_by_their_guards_only(repository):
    known = OF_ONE_SYSTEM | {module for module, _ in GUARDED}
    found = {(name, path) for path, tree in sources(repository) for name in imports(tree)}

    assert {pair for pair in found if pair[0] in known} == GUARDED


def test_nothing_that_only_some_systems_have_is_called(repository):
    found = [(path, what) for path, tree in sources(repository) for what in of_one_system(tree)]

    assert found == []


@pytest.mark.parametrize(
    "code",
    ["os.fork()", "os.rename(a, b)", "signal.SIGKILL", "Popen(c, pass_fds=[3])", "open('/tmp/x')"],
)
def test_what_only_some_systems_have_is_found(code):
    assert list(of_one_system(ast.parse(code)))


def test_processes_are_spawned(repository):
    """Also where the system could fork: a fork copies the threads of torch and polars halfway."""
    calls = {
        ast.unparse(node)
        for _, tree in sources(repository)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("multiprocessing.")
    }

    assert calls <= {"multiprocessing.get_context('spawn')", "multiprocessing.parent_process()"}


def test_every_text_file_is_opened_with_an_encoding(repository):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--preview", "--select=PLW1514", "--isolated",
         "recbole_mm", "dataset_scripts", "examples", "run_recbole_mm.py"],
        capture_output=True, text=True, check=False, cwd=repository,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


LIKE_WINDOWS = """
import asyncio, fcntl, multiprocessing, signal, subprocess, sys, types
# what these choose at their import depends on the system that is really there
import huggingface_hub.file_download, huggingface_hub.hub_mixin
import matplotlib.pyplot, pandas, polars, psutil, requests, scipy.stats, sklearn.decomposition, torch
import torch.utils.tensorboard

def locking(descriptor, mode, size, flock=fcntl.flock, how=fcntl.LOCK_EX | fcntl.LOCK_NB):
    flock(descriptor, how)

for name in {missing!r}:
    sys.modules[name] = None
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
for name in ("siginterrupt", "pthread_kill", "SIGKILL", "SIGALRM", "alarm", "setitimer"):
    delattr(signal, name)
sys.platform = "win32"
"""
MISSING = sorted(OF_ONE_SYSTEM - {"msvcrt", "posix", "winreg"})
NOT_IMPORTED = (
    "compare.ray_runs", "encoder_tuning.trainer", "recommend.ray_workers", "recommend.web_app",
    "recommend.web_page", "run.ray_cluster", "tuning.ray_search",
)  # fmt: skip
"""Modules whose libraries, ray, datasets and gradio, have parts of their own for every system."""

IMPORT_ALL = """
import importlib, pkgutil, sys
import recbole_mm

for module in pkgutil.walk_packages(recbole_mm.__path__, "recbole_mm."):
    if not module.name.removeprefix("recbole_mm.").startswith({left_out!r}):
        importlib.import_module(module.name)
print(sys.platform, "resource" in sys.modules and sys.modules["resource"])
"""
TINY = [
    "--hidden_size=8", "--inner_size=8", "--n_heads=2", "--n_experts=2", "--epochs=1", "--show_progress=False",
]  # fmt: skip
COMMANDS = [
    ["prepare", "Shop"],
    ["train", "--model=UniSRec", "--dataset=Shop", *TINY],
    ["compare", "--models=Popularity,UniSRec", "--dataset=Shop", "--seeds=1", "--jobs=1", "--out=out", *TINY],
]  # fmt: skip
RUN = """
import json, sys
from pathlib import Path
from recbole_mm.cli import main

for command in {commands!r}:
    assert main(command) == 0, command
(checkpoint,) = Path("saved").glob("*.pth")
assert main(["recommend", f"--model={{checkpoint}}", "--k=3", "--output=top.csv"]) == 0
"""


@pytest.fixture
def like_windows(tmp_path, repository):
    """Runs a program, whose child processes find the same, where modules and functions of POSIX are
    missing and the platform is called win32."""
    folder = tmp_path / "site"
    folder.mkdir()
    code = LIKE_WINDOWS.format(missing=MISSING)
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    path = os.pathsep.join([str(folder), str(repository)])

    def run(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_every_module_is_imported_where_modules_of_posix_are_missing(like_windows):
    output = like_windows(IMPORT_ALL.format(left_out=NOT_IMPORTED))

    assert output.splitlines()[-1] == "win32 None"


@pytest.mark.slow
def test_a_csv_becomes_recommendations_where_modules_of_posix_are_missing(like_windows, tmp_path):
    rows = ["user,item,timestamp"]
    rows += [
        f"u{u},i{(u + s) % 9},{1_500_000_000 + 86_400 * s}" for u in range(30) for s in range(6)
    ]
    shop = tmp_path / "Shop"
    shop.mkdir()
    (shop / "interactions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    titles = [
        json.dumps({"item": f"i{i}", "title": f"thing number {i} of kind {i % 3}"})
        for i in range(9)
    ]
    (shop / "items.jsonl").write_text("\n".join(titles) + "\n", encoding="utf-8")

    output = like_windows(RUN.format(commands=COMMANDS))

    assert "30 users, 9 items" in output
    assert (tmp_path / "out" / "report.html").is_file()
    _, *lists = (tmp_path / "top.csv").read_text(encoding="utf-8").splitlines()
    assert len(lists) == 30 * 3
    assert [path for path in tmp_path.rglob(".*") if path.suffix in (".lock", ".tmp")] == []
