"""Runners over a fake of CUDA's seam: what is bound, in which order, and that all is given back."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from kdbench.errors import BackendError
from kdbench.spec import Allocating, DeviceTimed, Pipelined, Resident
from kdbench_tensorrt.memory import ALIGNMENT_BYTES, Layout
from kdbench_tensorrt.pipeline import Pipeline
from kdbench_tensorrt.resident import ResidentRunner
from kdbench_tensorrt.runners import TensorRtRunner

GRAPH = pytest.mark.parametrize("graph", [True, False], ids=["graph", "launches"])


def batch(seed, size=2):
    draw = np.random.default_rng(seed)
    return tuple(draw.normal(size=(size, 3)).astype(np.float32) for _ in range(2))


def filled(entry, seed):
    for array, values in zip(entry, batch(seed, len(entry[0])), strict=True):
        array[...] = values
    return entry


def difference(inputs):
    return inputs[0] - inputs[1]


@pytest.fixture
def runner(cuda, opened, signature):
    return TensorRtRunner(cuda, opened, signature, 2, graph=True)


def test_tensors_of_a_batch_lie_in_one_block_and_each_is_aligned(signature):
    layout = Layout.of(signature.inputs, 70)
    assert layout.offsets == (0, 1024)
    assert layout.size == 2048
    assert all(offset % ALIGNMENT_BYTES == 0 for offset in layout.offsets)


@GRAPH
def test_a_call_copies_computes_and_copies_back_in_this_order(cuda, opened, signature, graph):
    runner = TensorRtRunner(cuda, opened, signature, 2, graph=graph)
    inputs = batch(1)
    cuda.calls.clear()
    np.testing.assert_array_equal(runner(inputs)[0], difference(inputs))
    one_by_one = ["copy in", "compute", "copy out", "synchronise"]
    assert cuda.calls == (["launch", "synchronise"] if graph else one_by_one)


def test_inputs_are_bound_by_name_in_the_order_of_the_card(cuda, engine, runner):
    [context] = engine.contexts
    assert context.shapes == {"left": (2, 3), "right": (2, 3)}
    assert context.addresses["right"] - context.addresses["left"] == ALIGNMENT_BYTES
    assert context.nvtx_verbosity == "none"
    assert context.scratch[1] == engine.device_memory_size_v2


@GRAPH
def test_an_entry_of_the_ring_is_read_at_each_call_from_where_it_lies(cuda, opened, signature, graph):
    runner = TensorRtRunner(cuda, opened, signature, 2, graph=graph)
    ring = [filled(entry, seed) for seed, entry in enumerate(runner.allocate_inputs(3))]
    for seed in (0, 1, 2, 0):
        np.testing.assert_array_equal(runner(ring[seed])[0], difference(batch(seed)))
    ring[0][0][...] = 7
    np.testing.assert_array_equal(runner(ring[0])[0], 7 - ring[0][1])


def test_each_entry_has_a_graph_of_its_own_and_all_share_one_context(cuda, engine, runner):
    runner.allocate_inputs(5)
    assert sum(kind == "graph" for kind, _ in cuda.alive) == 1 + 5
    assert len(engine.contexts) == 1


def test_the_network_runs_once_before_anything_is_recorded(cuda, opened, signature):
    TensorRtRunner(cuda, opened, signature, 1, graph=True)
    assert cuda.calls.index("compute") < cuda.calls.index("synchronise") < cuda.calls.index("create graph")


def test_outputs_stay_where_they_are(runner):
    assert runner(batch(1))[0] is runner(batch(2))[0]


def test_inputs_are_not_written_to(runner):
    inputs = batch(3)
    runner(inputs)
    np.testing.assert_array_equal(inputs[0], batch(3)[0])


@GRAPH
def test_device_time_is_that_of_the_network_alone(cuda, opened, signature, graph):
    runner = TensorRtRunner(cuda, opened, signature, 2, graph=graph)
    [entry] = runner.allocate_inputs(1)
    assert runner.device_ns(filled(entry, 4)) == 1000
    assert runner.device_ns(batch(5)) == 1000


@GRAPH
@pytest.mark.parametrize("kind", ["single", "pipeline", "resident"])
def test_the_device_is_still_at_work_when_what_is_timed_is_enqueued(
    cuda, opened, signature, graph, kind, monkeypatch
):
    if kind == "resident":
        runner = ResidentRunner(cuda, opened, signature, 2, 1, graph=graph)
        inputs = runner.upload(batch(3))
    elif kind == "pipeline":
        runner, inputs = Pipeline(cuda, opened, signature, 2, 2, graph=graph), batch(3)
    else:
        runner, inputs = TensorRtRunner(cuda, opened, signature, 2, graph=graph), batch(3)
    runner.device_ns(inputs)
    queues, wait = [], cuda.synchronise
    monkeypatch.setattr(
        cuda, "synchronise", lambda stream: (queues.append([name for name, _ in stream.queue]), wait(stream))
    )
    assert runner.device_ns(inputs) == 1000
    copies = [] if kind == "resident" else ["copy in"]
    assert queues == [[*copies, "compute", "event", "compute", "event"]]


def test_a_network_that_cannot_be_recorded_says_what_to_ask_for(cuda, engine, opened, signature):
    engine.fails_when_recorded = True
    with pytest.raises(BackendError, match=r"cannot be recorded.*a cause that the fake tells") as caught:
        TensorRtRunner(cuda, opened, signature, 2, graph=True)
    assert "graph=false" in caught.value.hint
    assert "abandon" in cuda.calls
    del caught
    gc.collect()
    assert not cuda.alive


@GRAPH
def test_closing_gives_everything_back_once_nobody_holds_an_array(cuda, opened, signature, graph):
    runner = TensorRtRunner(cuda, opened, signature, 2, graph=graph)
    ring = runner.allocate_inputs(3)
    outputs = runner(ring[0])
    runner.device_ns(ring[0])
    runner.close()
    runner.close()
    assert {kind for kind, _ in cuda.alive} == {"pinned memory"}
    # The harness may still read what it holds.
    assert np.isfinite(outputs[0]).all()
    assert np.isfinite(ring[2][0]).all()
    del runner, ring, outputs
    gc.collect()
    assert not cuda.alive


def test_a_closed_runner_raises_for_whatever_it_is_asked(runner):
    [entry] = runner.allocate_inputs(1)
    runner.close()
    for call in (lambda: runner(entry), lambda: runner(batch(1)), lambda: runner.device_ns(entry)):
        with pytest.raises(RuntimeError, match="closed"):
            call()


def test_memory_that_runs_out_midway_is_given_back(cuda, opened, signature, monkeypatch):
    def full(size):
        raise BackendError("CUDA could not allocate: out of memory.")

    monkeypatch.setattr(cuda, "allocate_pinned", full)
    with pytest.raises(BackendError, match="out of memory"):
        Pipeline(cuda, opened, signature, 2, 3, graph=False)
    gc.collect()
    assert not cuda.alive


@GRAPH
def test_every_request_in_flight_comes_back_once_with_its_own_outputs(cuda, opened, signature, graph):
    pipeline = Pipeline(cuda, opened, signature, 2, 3, graph=graph)
    ring = [filled(entry, seed) for seed, entry in enumerate(pipeline.allocate_inputs(2))]
    came = {}
    for tag in range(8):
        pipeline.submit(ring[tag] if tag < 2 else batch(tag), tag)
    while len(came) < 8:
        for tag, outputs in pipeline.wait():
            assert tag not in came
            came[tag] = outputs[0].copy()
    for tag, found in came.items():
        np.testing.assert_array_equal(found, difference(batch(tag)))


def test_a_pipeline_has_a_context_a_stream_and_a_graph_for_each_request_in_flight(
    cuda, engine, opened, signature
):
    pipeline = Pipeline(cuda, opened, signature, 2, 3, graph=True)
    pipeline.allocate_inputs(64)
    assert len(engine.contexts) == 3
    assert len({context.scratch[0] for context in engine.contexts}) == 3
    kinds = [kind for kind, _ in cuda.alive]
    assert (kinds.count("stream"), kinds.count("graph")) == (3, 3)


def test_a_pipeline_takes_the_oldest_first_and_all_that_are_complete_with_it(cuda, opened, signature):
    pipeline = Pipeline(cuda, opened, signature, 2, 3, graph=False)
    for tag in range(3):
        pipeline.submit(batch(tag), tag)
    assert [tag for tag, _ in pipeline.wait()] == [0]
    cuda.synchronise(pipeline._in_flight[2].execution.stream)
    assert [tag for tag, _ in pipeline.wait()] == [1, 2]


@GRAPH
def test_a_pipeline_may_be_closed_with_requests_in_flight(cuda, opened, signature, graph):
    pipeline = Pipeline(cuda, opened, signature, 2, 2, graph=graph)
    pipeline.submit(batch(1), 1)
    pipeline.close()
    pipeline.close()
    with pytest.raises(RuntimeError, match="closed"):
        pipeline.wait()
    with pytest.raises(RuntimeError, match="closed"):
        pipeline.submit(batch(1), 2)
    with pytest.raises(RuntimeError, match="closed"):
        pipeline.device_ns(batch(1))
    del pipeline
    gc.collect()
    assert not cuda.alive


def test_a_pipeline_tells_device_time_of_one_request(cuda, opened, signature):
    pipeline = Pipeline(cuda, opened, signature, 2, 2, graph=True)
    assert [pipeline.device_ns(batch(seed)) for seed in (1, 2)] == [1000, 1000]


@GRAPH
def test_what_was_uploaded_is_computed_where_it_lies_and_copies_nothing(cuda, opened, signature, graph):
    runner = ResidentRunner(cuda, opened, signature, 2, 1, graph=graph)
    entries = [runner.upload(batch(seed)) for seed in range(4)]
    cuda.calls.clear()
    answers = [runner(entry) for entry in entries]
    assert not {"copy in", "copy out"} & set(cuda.calls)
    for seed, entry in enumerate(entries):
        np.testing.assert_array_equal(runner.download(runner(entry))[0], difference(batch(seed)))
    assert runner.device_ns(entries[0]) == 1000
    assert len(answers) == 4


def test_uploads_have_addresses_of_their_own_and_share_what_lies_between_layers(
    cuda, engine, opened, signature
):
    runner = ResidentRunner(cuda, opened, signature, 2, 1, graph=True)
    entries = [runner.upload(batch(seed)) for seed in range(4)]
    assert len({context.addresses["left"] for context in engine.contexts}) == len(entries) == 4
    assert len({context.scratch for context in engine.contexts}) == 1


def test_the_place_of_an_upload_that_nobody_holds_is_used_again(cuda, engine, opened, signature):
    runner = ResidentRunner(cuda, opened, signature, 2, 1, graph=True)
    for seed in range(20):
        entry = runner.upload(batch(seed))
        np.testing.assert_array_equal(runner.download(runner(entry))[0], difference(batch(seed)))
    assert len(engine.contexts) <= 2


def test_uploads_take_the_slots_in_turn_whatever_was_given_back_before(cuda, opened, signature):
    runner = ResidentRunner(cuda, opened, signature, 2, 3, graph=False)
    given_back = [runner.upload(batch(seed)) for seed in range(4)]
    del given_back
    ring = [runner.upload(batch(seed)) for seed in range(9)]
    slots = [entry.place.slot for entry in ring]
    assert len(set(map(id, slots[:3]))) == 3
    assert slots[:3] == slots[3:6] == slots[6:]


@GRAPH
def test_uploads_run_several_at_once_and_come_back_with_their_own_outputs(cuda, opened, signature, graph):
    runner = ResidentRunner(cuda, opened, signature, 2, 2, graph=graph)
    entries = [runner.upload(batch(seed)) for seed in range(3)]
    came, in_flight = {}, 0
    for turn in range(9):
        runner.submit(entries[turn % 3], turn)
        in_flight += 1
        if in_flight == 2:
            for tag, outputs in runner.wait():
                came[tag] = runner.download(outputs)[0]
                in_flight -= 1
    while in_flight:
        for tag, outputs in runner.wait():
            came[tag] = runner.download(outputs)[0]
            in_flight -= 1
    assert sorted(came) == list(range(9))
    for tag, found in came.items():
        np.testing.assert_array_equal(found, difference(batch(tag % 3)))


@pytest.mark.parametrize("held", [True, False])
def test_a_closed_resident_runner_has_given_everything_back(cuda, opened, signature, held):
    runner = ResidentRunner(cuda, opened, signature, 2, 2, graph=True)
    entry = runner.upload(batch(1))
    runner.submit(entry, 1)
    if not held:
        del entry
    runner.close()
    runner.close()
    with pytest.raises(RuntimeError, match="closed"):
        runner.upload(batch(1))
    if held:
        with pytest.raises(RuntimeError, match="closed"):
            runner(entry)
    assert {kind for kind, _ in cuda.alive} == {"pinned memory"}
    del runner
    gc.collect()
    assert not cuda.alive


def test_runners_have_the_abilities_that_the_harness_looks_for(cuda, opened, signature):
    single = TensorRtRunner(cuda, opened, signature, 1, graph=False)
    pipeline = Pipeline(cuda, opened, signature, 1, 2, graph=False)
    resident = ResidentRunner(cuda, opened, signature, 1, 2, graph=False)
    assert isinstance(single, Allocating)
    assert not isinstance(single, Resident)
    assert isinstance(pipeline, Allocating)
    assert isinstance(resident, Resident)
    assert isinstance(pipeline, Pipelined)
    assert isinstance(resident, Pipelined)
    assert all(isinstance(one, DeviceTimed) for one in (single, pipeline, resident))
