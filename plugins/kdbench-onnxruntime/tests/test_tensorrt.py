from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdbench import Target, TensorSpec, Unsupported
from kdbench.backends import connect
from kdbench.options import check_options
from kdbench.student import open_student
from kdbench_onnxruntime import tensorrt
from kdbench_onnxruntime.engines import Engines, profile
from kdbench_onnxruntime.nvidia import set_tf32
from kdbench_onnxruntime.wheels import provider_library

pytest.importorskip("onnxruntime")

MISSING = "ignore:Specified provider .* is not in available provider names:UserWarning"


without_tensorrt = pytest.mark.skipif(
    provider_library("tensorrt") is not None,
    reason="This wheel has TensorRT's provider, which raises by itself.",
)


@pytest.fixture
def backend():
    return connect("onnxruntime-tensorrt", tensorrt)


def make_target(backend, options=(), **changes):
    return Target(**{"device": "cuda:0", "options": check_options(backend.info, dict(options)), **changes})


def test_precision_is_in_the_graph_and_no_flag_of_the_builder(backend):
    for precision in ("fp32", "fp16", "bf16"):
        [(name, options), _] = tensorrt.chain(make_target(backend, precision=precision), 7, {})
        assert name == "TensorrtExecutionProvider"
        assert not {"trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"} & set(options)


def test_what_tensorrt_leaves_the_cuda_provider_does_in_the_same_stream(backend):
    target = make_target(backend, {"graph": True, "optimization_level": 5, "workspace_mib": 64})
    [(_, first), (name, beside)] = tensorrt.chain(target, 1234, {"trt_engine_cache_path": "there"})
    assert first == {
        "device_id": "0",
        "trt_builder_optimization_level": "5",
        "trt_engine_cache_path": "there",
        "trt_max_workspace_size": str(64 << 20),
        "has_user_compute_stream": "1",
        "user_compute_stream": "1234",
        "trt_cuda_graph_enable": "1",
    }
    assert name == "CUDAExecutionProvider"
    assert beside == {
        "device_id": "0",
        "use_tf32": "0",
        "has_user_compute_stream": "1",
        "user_compute_stream": "1234",
    }


def test_tf32_is_allowed_for_its_own_precision_only_whatever_the_shell_says(backend, monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    set_tf32(make_target(backend, precision="fp32"))
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    set_tf32(make_target(backend, precision="tf32"))
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ


def test_each_batch_size_has_a_folder_of_its_own_and_is_found_again_elsewhere(tmp_path):
    for batch_size in (1, 8, None):
        engines = Engines.in_folder(tmp_path / "before", batch_size)
        engines.folder.mkdir(parents=True)
        (engines.folder / "TRTKernel_sm89.engine").write_bytes(b"engine")
    (tmp_path / "before").rename(tmp_path / "after")
    files = Engines.files(tmp_path / "after")
    assert len(files) == 3
    assert Engines.of(files, 8).folder == tmp_path / "after" / "engines" / "8"
    assert Engines.of(files, None).folder == tmp_path / "after" / "engines" / "any"
    with pytest.raises(RuntimeError, match="no engine for batch size 4"):
        Engines.of(files, 4)


def test_timings_are_shared_while_building_and_not_part_of_the_artifact(tmp_path):
    engines = Engines.in_folder(tmp_path, 1)
    engines.folder.mkdir(parents=True)
    building = engines.building(tmp_path)
    assert building["trt_timing_cache_path"] == str(tmp_path / "timings")
    (tmp_path / "timings" / "cache_sm89.timing").write_bytes(b"timings")
    assert Engines.files(tmp_path) == []
    assert not any("timing" in name for name in engines.reading())


@pytest.mark.parametrize("change", ["new", "other"])
def test_an_engine_that_is_built_at_load_is_an_error(tmp_path, change):
    engines = Engines.in_folder(tmp_path, 1)
    engines.folder.mkdir(parents=True)
    (engines.folder / "old_sm86.engine").write_bytes(b"engine")
    with engines.unchanged():
        pass
    name = {"new": "new_sm89.engine", "other": "old_sm86.engine"}[change]
    with pytest.raises(RuntimeError, match=f"built {name} at load"), engines.unchanged():
        (engines.folder / name).write_bytes(b"another engine")


def test_a_range_of_shapes_has_one_profile_that_is_best_at_the_largest():
    inputs = (TensorSpec("left", (3,), "float32"), TensorSpec("images", (3, 16, 16), "float32"))
    assert profile(inputs, (8, 1, 4)) == {
        "trt_profile_min_shapes": "left:1x3,images:1x3x16x16",
        "trt_profile_opt_shapes": "left:8x3,images:8x3x16x16",
        "trt_profile_max_shapes": "left:8x3,images:8x3x16x16",
    }


@without_tensorrt
@pytest.mark.filterwarnings(MISSING)
def test_a_network_of_which_tensorrt_took_nothing_is_unsupported(backend, tmp_path, monkeypatch):
    # Here a real session quietly leaves TensorRT out, and so builds no engine.
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")
    with pytest.raises(Unsupported, match="TensorRT took no part"):
        backend.compile(open_student("digits-2x5"), make_target(backend), tmp_path)


@without_tensorrt
@pytest.mark.filterwarnings(MISSING)
def test_a_session_that_fell_back_to_the_cpu_tells_so(backend, driver, tmp_path, monkeypatch):
    student, target = open_student("digits-2x5"), make_target(backend)
    monkeypatch.setattr(
        Engines, "refuse_none", lambda engines: (engines.folder / "x.engine").write_bytes(b"")
    )
    session = backend.load(backend.compile(student, target, tmp_path), target)
    assert session.placement.device == "cpu"
    session.close()


def test_the_artifact_names_its_engines_beside_the_graph(tmp_path):
    folder = Engines.in_folder(tmp_path, 1).folder
    folder.mkdir(parents=True)
    (folder / "a.engine").write_bytes(b"")
    assert Engines.files(tmp_path) == [Path(folder / "a.engine")]
