"""Plugins that take what is not theirs: memory, disk, processes; and those that die when nobody looks."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from kdbench import bench, cgroup, log, results
from tests.faulty import HEALTHY, rogue

MEMORY_BYTES = 700 << 20

HOARD = """
hoard = []
while True:
    hoard.append(bytes({}))
"""

KILLER = """
import os, pathlib, signal, sys
pid, died = int(sys.argv[1]), pathlib.Path(sys.argv[2])
print("ready", flush=True)
while True:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        break
    if state == "T":
        os.kill(pid, signal.SIGKILL)
        died.touch()
        break
"""
"""Kills a process once it is stopped."""

DIES_IDLE = f"""
killer = subprocess.Popen(
    [sys.executable, "-c", {KILLER!r}, str(os.getpid()), str(HERE.parent / "died")],
    stdout=subprocess.PIPE, start_new_session=True,
)
killer.stdout.readline()
"""

WAITS = """
deadline = time.monotonic() + 60
while not (HERE.parent / "died").exists() and time.monotonic() < deadline:
    time.sleep(0.01)
"""

CHILDREN = """
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
subprocess.run(["sh", "-c", "setsid sleep 600 > /dev/null 2>&1 &"], check=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
"""

FAILING = {
    "hoards-in-compile": (rogue("compile", HOARD.format(1 << 20)), "compile", "out of memory"),
    "hoards-in-load": (rogue("load", HOARD.format(100)), "load", "out of memory"),
    "hoards-in-run": (rogue("run", HOARD.format(1 << 20)), "run", "Out of memory"),
    "floods": (rogue("run", "while True: print('x' * 10_000)"), "run", "printed more than 64 MiB"),
    "dies-in-second-block": (rogue("load", "if starts() == 2: os._exit(7)"), "load", "exit code 7"),
    "dies-idle": (rogue("load", DIES_IDLE), "run", "SIGKILL"),
}
HARMLESS = {
    "prints": rogue("bind", "print('y' * 5_000_000)\nos.write(2, b'z' * 5_000_000)"),
    "leaves-children": rogue("load", CHILDREN),
    "waits-for-a-death": rogue("bind", WAITS),
}


@pytest.fixture(scope="module")
def ran(run_beside):
    available = psutil.virtual_memory().available
    share = MEMORY_BYTES / min(available, cgroup.memory_limit_bytes() or available)
    return run_beside({name: one[0] for name, one in FAILING.items()} | HARMLESS, memory_share=share)


@pytest.mark.parametrize("name", FAILING)
def test_the_row_says_what_it_ran_out_of_or_died_of_and_where(ran, name):
    _, phase, reason = FAILING[name]
    row = ran.rogue(name)
    assert (row.status, row.phase) == ("failed", phase)
    assert reason in row.reason
    assert Path(row.log).stat().st_size > 0


@pytest.mark.parametrize("name", [HEALTHY, *(f"rogue-{name}" for name in HARMLESS)])
def test_what_only_makes_noise_or_children_is_measured(ran, name):
    assert ran.row(name).status == "measured"
    assert {one.block for one in ran.slices(name)} == {0, 1}


def test_the_finished_block_of_a_backend_that_dies_in_the_second_is_kept(ran):
    assert {one.block for one in ran.slices("rogue-dies-in-second-block")} == {0}


def test_only_the_end_of_a_flood_is_kept(ran):
    assert Path(ran.rogue("floods").log).stat().st_size < 2 * log.KEPT_BYTES


def test_no_child_lives_on_however_it_was_started(ran):
    assert ran.left == ()


def test_the_run_ends_with_a_whole_result(ran):
    assert bench.exit_code(ran.result) == 1
    assert results.read(ran.output) == ran.result
    assert not ran.journal.exists()
