"""What the tests of locks and of files do in processes of their own; imports nothing heavy."""

import multiprocessing
import os
import time

from recbole_mm.tools.files import scratch_folder, whole_or_not
from recbole_mm.tools.locks import lock

SPAWN = multiprocessing.get_context("spawn")


def in_a_process(function, *arguments):
    process = SPAWN.Process(target=function, args=arguments)
    process.start()
    return process


def die_while_writing(path):
    with whole_or_not(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        os._exit(9)


def write_slowly(path, begun):
    with whole_or_not(path) as temporary:
        temporary.write_text("slow", encoding="utf-8")
        begun.set()
        time.sleep(0.5)


def hold(path, begun, ended):
    with lock(path):
        begun.set()
        ended.wait(300)


def die_with_a_lock(path):
    with lock(path):
        os._exit(9)


def count_up(path, times):
    """Add to the number in a file, which only locking makes right for several processes."""
    for _ in range(times):
        with lock(f"{path}.lock", seconds=300):
            number = int(path.read_text(encoding="utf-8"))
            path.write_text(str(number + 1), encoding="utf-8")


def die_in_a_scratch_folder(parent):
    with scratch_folder(parent, ".make-") as folder:
        (folder / "x").write_text("x", encoding="utf-8")
        os._exit(9)
