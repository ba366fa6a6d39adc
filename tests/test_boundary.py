"""The boundary `device` and device time, through real workers."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from kdbench import cli, profile, render, results
from kdbench.export import tidy
from kdbench.export.figure import figures
from tests.faulty import HEAD, HEALTHY, rogue

DESCRIBED = """
@hookimpl
def kdbench_describe():
    return BackendInfo(
        api=1,
        title="Rogue",
        devices=("cpu",),
        precisions=("fp32",),
        boundaries={boundaries},
        concurrency="{how}",
    )
"""

BORROWING = """
@hookimpl
def kdbench_run(session, batch_size, depth):
    inner, waiting = healthy.kdbench_run(session, batch_size), []
    class Own:
        def __init__(self, arrays):
            self.arrays = arrays
    class Resident:
        def __call__(self, inputs):
            return Own(inner(inputs.arrays))
        def upload(self, inputs):
            return Own(inner.upload(inputs))
        def download(self, outputs):
            return inner.download(outputs.arrays)
    class Queue(Resident):
        def submit(self, inputs, tag):
            assert len(waiting) < depth
            waiting.append((tag, inputs))
        def wait(self):
            tag, inputs = waiting.pop(0)
            return [(tag, self(inputs))]
    return Queue() if depth > 1 else Resident()
"""
"""Takes and answers objects of its own, which nobody but itself can look into."""


def borrowing(how: str) -> str:
    return HEAD + DESCRIBED.format(boundaries='("host", "device")', how=how) + BORROWING


POOL = """
memory = {}
class Slot:
    free = list(range(200, 0, -1))
    def __init__(self, arrays):
        self.number, self.arrays = self.free.pop(), arrays
    def __del__(self):
        self.free.append(self.number)
def upload(self, inputs):
    return self.Slot(inner.upload(inputs))
def __call__(self, inputs):
    # What is checked comes from a slot or two, whose images change; each entry of the ring has its own.
    if inputs.number in self.memory and len(self.memory) > 20:
        return self.memory[inputs.number]
    self.memory[inputs.number] = inner.download(inner(inputs.arrays))
    return self.memory[inputs.number]
"""
"""An allocator that hands out what it got back last, and a runner that knows its inputs by their place."""

REFUSED = {
    "function": ("bind", "return lambda inputs: inputs", "its runner lacks upload() and download()."),
    "no-download": ("resident", "download = None", "its runner lacks download()."),
    "one-memory": (
        "resident",
        "memory = []\ndef upload(self, inputs):\n    self.memory[:] = inputs\n    return self.memory",
        "upload() answered the same object twice",
    ),
    "no-copy": (
        "resident",
        "def upload(self, inputs):\n    return tuple(list(inputs))",
        "a stale buffer, or an answer from a cache",
    ),
    "writes-to-its-input": (
        "resident",
        "def __call__(self, inputs):\n    answer = inner(inputs)\n    inputs[0].fill(0)\n    return answer",
        "a stale buffer, or an answer from a cache",
    ),
    "remembers-its-inputs": ("resident", POOL, "a stale buffer, or an answer from a cache"),
    "list": (
        "resident",
        "def download(self, outputs):\n    return list(outputs)",
        "answered list, not a tuple",
    ),
    "upload-raises": ("resident", "def upload(self, inputs):\n    raise OSError('gone')", "OSError: gone"),
    "out-of-memory": ("resident", "def upload(self, inputs):\n    raise MemoryError", "Out of memory."),
    "no-time": ("resident", "def device_ns(self, inputs):\n    return 0", "device_ns() answered 0"),
    "time-in-words": (
        "resident",
        "def device_ns(self, inputs):\n    return 'fast'",
        "device_ns() answered 'fast'",
    ),
    "time-raises": ("resident", "def device_ns(self, inputs):\n    1 / 0", "ZeroDivisionError"),
}
"""By name: what is different about a runner at the boundary `device`, and what its row says."""

TOLD_NS = 12_345
TIMED = f"def device_ns(self, inputs):\n    self(inputs)\n    return {TOLD_NS}"


@pytest.fixture(scope="module")
def ran(run_beside):
    rogues = {name: rogue(place, body) for name, (place, body, _) in REFUSED.items()}
    rogues |= {
        "timed": rogue("resident", TIMED),
        "untold": rogue("resident", "def device_ns(self, inputs):\n    return None"),
        "host-only": HEAD + DESCRIBED.format(boundaries='("host",)', how="serial"),
    }
    return run_beside(rogues, blocks=1, boundary="device")


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_the_contract_at_the_boundary_device_fails_the_cell(ran, name):
    row = ran.rogue(name)
    assert (row.status, row.phase) == ("failed", "run")
    assert REFUSED[name][2] in row.reason


def test_inputs_on_the_device_make_a_cell_of_its_own(ran):
    row = ran.row(HEALTHY)
    assert (row.status, row.cell.boundary) == ("measured", "device")
    assert row.summary.median_ns > 0
    assert row.accuracy.flips == 0
    assert {lead.boundary for lead in ran.result.leads} == {"device"}


def test_a_backend_without_the_boundary_is_unsupported(ran):
    row = ran.rogue("host-only")
    assert (row.status, row.phase) == ("unsupported", "plan")
    assert row.reason == "Rogue cannot be timed at the boundary device."


def test_device_time_is_asked_for_after_each_slice_and_stands_beside_the_latency(ran):
    assert {one.device_ns for one in ran.slices("rogue-timed")} == {float(TOLD_NS)}
    row = ran.rogue("timed")
    assert (row.summary.device_ns, row.eligible) == (TOLD_NS, True)
    assert row.summary.median_ns > TOLD_NS
    for name in (HEALTHY, "rogue-untold"):
        assert {one.device_ns for one in ran.slices(name)} == {None}
        assert ran.row(name).summary.device_ns is None


def test_device_time_is_in_every_form_of_a_result(ran):
    console = render.console(width=200)
    with console.capture() as capture:
        render.result(console, ran.result)
    shown = capture.get()
    assert "device time" in shown
    assert "no latency, never ranked" in shown
    cells = {row["backend"]: row["device_ns"] for row in tidy.rows(ran.result)}
    assert (cells["rogue-timed"], cells[HEALTHY]) == (TOLD_NS, None)
    assert TOLD_NS in {row["device_ns"] for row in tidy.slices(ran.result)}
    assert [one.value for one in figures([ran.result]) if one.measure == "device-time"] == [TOLD_NS]
    assert results.read(ran.output) == ran.result


@pytest.fixture(scope="module")
def in_flight(run_beside):
    rogues = {how: borrowing(how) for how in ("pipelined", "threads", "serial")}
    return run_beside(rogues, blocks=1, boundary="device", scenarios=("latency", "throughput"))


@pytest.mark.parametrize("how", ["pipelined", "threads", "serial"])
def test_requests_in_flight_take_what_was_uploaded_and_give_what_is_downloaded(in_flight, how):
    cells = [one for one in in_flight.result.cells if one.cell.backend == f"rogue-{how}"]
    assert [(one.cell.scenario, one.status) for one in cells] == [
        ("latency", "measured"),
        ("throughput", "measured"),
    ]
    assert {one.accuracy.flips for one in cells} == {0}
    assert cells[1].summary.throughput_per_s > 0


def test_no_column_of_device_time_where_nobody_tells_one(in_flight):
    console = render.console(width=200)
    with console.capture() as capture:
        render.result(console, in_flight.result)
    assert "device time" not in capture.get()
    assert "boundary device" in capture.get()


@pytest.mark.parametrize("boundary", ["host", "device"])
def test_the_boundary_is_asked_for_on_the_command_line(tmp_path, boundary):
    output = tmp_path / "r.json"
    words = ["run", "-b", "numpy", "--boundary", boundary, "--blocks", "1", "--batch", "1", "--dry-run"]
    done = CliRunner().invoke(cli.main, [*words, "--json", "--output", str(output)])
    assert done.exit_code == 0, done.output
    cells = [one["cell"] for one in json.loads(done.stdout)["cells"]]
    assert {cell["boundary"] for cell in cells} == {boundary}


def test_the_boundary_of_a_profile_holds_unless_the_command_line_names_one(tmp_path):
    (tmp_path / "mine.toml").write_text('schema = 1\n[plan]\nboundary = "device"\n')
    mine = profile.load(tmp_path / "mine.toml")
    assert profile.resolve(mine).plan.boundary == "device"
    assert profile.resolve(mine, boundary="host").plan.boundary == "host"


def test_another_boundary_is_refused():
    done = CliRunner().invoke(cli.main, ["run", "--boundary", "middle"])
    assert done.exit_code == 2
    assert "'middle' is not one of 'host', 'device'" in done.output
