"""A session over fakes of CUDA and of TensorRT's runtime: what is opened, told, and closed in which order."""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import kdbench_tensorrt
from kdbench import Artifact, Target
from kdbench.backends import connect
from kdbench.nvidia import Gpu
from kdbench.options import check_options
from kdbench_tensorrt import session as sessions
from kdbench_tensorrt.editions import STANDARD
from kdbench_tensorrt.hooks import Hooks
from kdbench_tensorrt.layers import Layer, to_json
from kdbench_tensorrt.pipeline import Pipeline
from kdbench_tensorrt.resident import ResidentRunner
from kdbench_tensorrt.runners import TensorRtRunner

ADA = Gpu(1, "GPU-1", "NVIDIA L4", (8, 9), 24 << 30)
CONV = {
    "Name": "conv",
    "LayerType": "CaskConvolution",
    "Inputs": [{"Name": "t", "Format/Datatype": "Half"}],
    "Outputs": [],
    "TacticName": "h884",
}


class Logger:
    INFO, ERROR = 3, 1


class Runtime:
    """Opens what `opens` says; anything else gives None and an error, as TensorRT does."""

    opens = b"engine"

    def __init__(self, logger):
        self.logger = logger

    def deserialize_cuda_engine(self, blob):
        if blob != self.opens:
            self.logger.log(
                1, "Error Code 1: Serialization (stdVersionRead == kSERIALIZATION_VERSION failed.)"
            )
            return None
        return self.engine()


@pytest.fixture
def backend(cuda, engine, monkeypatch):
    layers = json.dumps({"Layers": [CONV]})
    inspector = SimpleNamespace(get_engine_information=lambda form: layers)
    engine.create_engine_inspector = lambda: inspector
    monkeypatch.setattr(Logger, "__init__", lambda self: None, raising=False)
    Runtime.engine = lambda self: engine
    fake = SimpleNamespace(
        __version__="11.4.0",
        ILogger=Logger,
        Runtime=Runtime,
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user managed"),
        LayerInformationFormat=SimpleNamespace(JSON="json"),
        ProfilingVerbosity=SimpleNamespace(NONE="none"),
    )
    monkeypatch.setitem(sys.modules, "tensorrt_fake", fake)
    cuda.selected = []
    cuda.select = lambda index, *, spin: cuda.selected.append((index, spin))
    cuda.current = lambda: 1
    monkeypatch.setattr(kdbench_tensorrt, "device", cuda, raising=False)
    monkeypatch.setattr(sessions, "find_gpu", lambda device: ADA)
    return connect("tensorrt", Hooks(replace(STANDARD, module="tensorrt_fake")))


@pytest.fixture
def artifact(tmp_path, signature):
    names = ["batch-1.engine", "batch-2.engine"]
    for name in names:
        (tmp_path / name).write_bytes(b"engine")
    network = (Layer("conv", "CONVOLUTION", "fp16"),)
    (tmp_path / "layers.json").write_text(to_json(dict.fromkeys(names, ((), network))))
    (tmp_path / "student.fp16.onnx").write_bytes(b"")
    built = {"version": "11.4.0", "gpu": ADA.name, "capability": "8.9"}
    notes = {
        "engines": "[1, 2]",
        "model": "student.fp16.onnx",
        "signature": json.dumps(signature.to_plain()),
        "built": json.dumps(built),
    }
    return Artifact(tuple(sorted(tmp_path.iterdir())), notes)


def make_target(backend, options=(), **changes):
    chosen = {"device": "cuda:1", "precision": "fp16", "batch_sizes": (1, 2), **changes}
    return Target(options=check_options(backend.info, dict(options)), **chosen)


def test_the_placement_is_read_back_from_device_and_engine(backend, artifact):
    placement = backend.load(artifact, make_target(backend)).placement
    assert placement.device == "cuda:1"
    assert placement.precision == "fp16"
    assert placement.provider == "TensorRT 11.4.0"
    assert placement.nodes == {"cuda:1": 1}


def test_an_engine_that_computes_in_something_else_than_asked_shows(backend, artifact):
    assert backend.load(artifact, make_target(backend, precision="fp32")).placement.precision == "fp16"


@pytest.mark.parametrize(("sync", "spin"), [("spin", True), ("block", False)])
def test_the_gpu_of_the_target_is_selected_with_the_way_to_wait(cuda, backend, artifact, sync, spin):
    backend.load(artifact, make_target(backend, {"sync": sync}))
    assert cuda.selected == [(1, spin)]


def test_boundary_and_depth_decide_which_runner_it_is(backend, artifact):
    session = backend.load(artifact, make_target(backend))
    assert isinstance(backend.run(session, 1), TensorRtRunner)
    assert isinstance(backend.run(session, 2, 3), Pipeline)
    resident = backend.load(artifact, make_target(backend, boundary="device"))
    assert isinstance(backend.run(resident, 1), ResidentRunner)
    assert isinstance(backend.run(resident, 1, 2), ResidentRunner)


def test_runners_of_one_session_do_not_disturb_each_other(backend, artifact):
    session = backend.load(artifact, make_target(backend))
    one, other = backend.run(session, 2), backend.run(session, 2)
    left, right = np.full((2, 3), 5, np.float32), np.ones((2, 3), np.float32)
    [first] = one((left, right))
    other((right, left))
    np.testing.assert_array_equal(first, left - right)


def test_closing_twice_is_fine_and_gives_all_of_it_back(cuda, backend, artifact):
    session = backend.load(artifact, make_target(backend))
    runners = [backend.run(session, 1), backend.run(session, 2, 3)]
    runners[0].allocate_inputs(2)
    runners[1].submit(tuple(np.zeros((2, 3), np.float32) for _ in range(2)), 1)
    session.close()
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        runners[0](tuple(np.zeros((1, 3), np.float32) for _ in range(2)))
    with pytest.raises(Exception, match="closed"):
        backend.run(session, 1)
    del runners
    gc.collect()
    assert not cuda.alive


def test_fifty_sessions_leave_nothing_behind(cuda, backend, artifact):
    for _ in range(50):
        session = backend.load(artifact, make_target(backend))
        backend.run(session, 1).allocate_inputs(2)
        backend.run(session, 1, 2)
        session.close()
    gc.collect()
    assert not cuda.alive


def test_an_engine_that_does_not_open_is_built_again_and_the_placement_says_why(
    backend, artifact, monkeypatch, capsys
):
    monkeypatch.setattr(Runtime, "opens", b"new")
    anew = SimpleNamespace(blob=b"new", layers=(Layer("conv", "CONVOLUTION", "fp16"),))
    monkeypatch.setattr("kdbench_tensorrt.building.Workshop.build", lambda self, size: anew)
    session = backend.load(artifact, make_target(backend))
    assert session.placement.provider.startswith("TensorRT 11.4.0 (engine built again: it does not open: ")
    assert "kSERIALIZATION_VERSION" in session.placement.provider
    assert "batch-2.engine is built again" in capsys.readouterr().err


def test_an_engine_of_another_gpu_is_not_even_tried(backend, artifact, monkeypatch):
    monkeypatch.setattr(
        sessions, "find_gpu", lambda device: replace(ADA, name="NVIDIA H100", capability=(9, 0))
    )
    anew = SimpleNamespace(blob=b"engine", layers=())
    monkeypatch.setattr("kdbench_tensorrt.building.Workshop.build", lambda self, size: anew)
    session = backend.load(artifact, make_target(backend))
    assert "it was built for NVIDIA L4 (8.9), and this is NVIDIA H100 (9.0)" in session.placement.provider
