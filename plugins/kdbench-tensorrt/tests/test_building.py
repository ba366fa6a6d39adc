"""Compile for real, by TensorRT for RTX, whose parser and builder need no GPU."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from kdbench import Student, Target, TensorSpec, Unavailable, Unsupported
from kdbench.backends import connect
from kdbench.errors import BackendError
from kdbench.nvidia import Gpu, look
from kdbench.options import check_options
from kdbench.student import open_student
from kdbench.wire import artifact_from_json, artifact_to_json
from kdbench_tensorrt import compiling, opening
from kdbench_tensorrt.building import ANY, Workshop
from kdbench_tensorrt.editions import RTX
from kdbench_tensorrt.network import Signature
from kdbench_tensorrt.opening import open_engine
from kdbench_tensorrt.rtx import HOOKS
from kdbench_tensorrt.stored import built_for, read, unlike

trt = pytest.importorskip("tensorrt_rtx")
onnx = pytest.importorskip("onnx")
helper = pytest.importorskip("onnx.helper")

ADA = Gpu(0, "GPU-1", "NVIDIA L4", (8, 9), 24 << 30)
HOPPER = Gpu(0, "GPU-2", "NVIDIA H100", (9, 0), 80 << 30)


@pytest.fixture
def backend():
    return connect("tensorrt-rtx", HOOKS)


@pytest.fixture
def student():
    return open_student("digits-2x5")


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    """Build as on a machine without a GPU, wherever the tests run."""
    monkeypatch.setattr(compiling, "find_gpu", lambda device: None)


def make_target(backend, options=(), **changes):
    return Target(**{"device": "cuda:0", "options": check_options(backend.info, dict(options)), **changes})


def make_student(folder, nodes, inputs, outputs, weights=(), opsets=(("", 17),)):
    """Write a network of a few nodes; inputs and outputs are (name, shape without batch)."""

    def values(tensors):
        return [
            helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", *shape]) for n, shape in tensors
        ]

    tensors = [
        helper.make_tensor(name, onnx.TensorProto.FLOAT, array.shape, array.ravel())
        for name, array in weights
    ]
    graph = helper.make_graph(nodes, "small", values(inputs), values(outputs), initializer=tensors)
    imports = [helper.make_opsetid(*one) for one in opsets]
    folder.mkdir(exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), folder / "small.onnx")
    return Student(
        name="small",
        task="classification",
        sha256="0" * 64,
        root=folder,
        files={"onnx": folder / "small.onnx"},
        inputs=tuple(TensorSpec(name, shape, "float32") for name, shape in inputs),
        outputs=tuple(TensorSpec(name, shape, "float32") for name, shape in outputs),
        classes=("a", "b"),
    )


def make_workshop(student, target, gpu=None):
    signature = Signature(student.inputs, student.outputs)
    return Workshop(RTX, student.files["onnx"], signature, target, gpu)


def configured(workshop):
    """The configuration that the builder is given."""
    return workshop._configure(trt.Builder(workshop.logger))


def layers_of(artifact):
    [file] = [file for file in artifact.files if file.name == "layers.json"]
    return json.loads(file.read_text())


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_every_precision_is_built_for_each_batch_size(backend, student, tmp_path, precision):
    target = make_target(backend, precision=precision, batch_sizes=(1, 8))
    artifact = backend.compile(student, target, tmp_path)
    names = [file.name for file in artifact.files]
    assert names[:3] == ["batch-1.engine", "batch-8.engine", "layers.json"]
    assert all(file.stat().st_size > 1000 for file in artifact.files[:2])
    model = "student.onnx" if precision in ("fp32", "tf32") else f"student.{precision}.onnx"
    assert names[3:] == [model]


def test_a_dynamic_range_is_one_engine_for_all_batch_sizes(backend, student, tmp_path):
    target = make_target(backend, batch_sizes=(1, 8), dynamic=True)
    artifact = backend.compile(student, target, tmp_path)
    assert artifact.files[0].name == "batch-any.engine"
    assert list(read(artifact).engines) == [ANY]


@pytest.mark.parametrize(
    ("batch_sizes", "size", "shape", "profile"),
    [((1, 8), 8, (8, 3), [(8, 3)] * 3), ((1, 8), ANY, (-1, 3), [(1, 3), (8, 3), (8, 3)])],
)
def test_inputs_are_fixed_to_the_batch_size_or_range_up_to_the_largest(
    backend, tmp_path, batch_sizes, size, shape, profile
):
    node = helper.make_node("Relu", ["x"], ["y"])
    student = make_student(tmp_path / "student", [node], [("x", (3,))], [("y", (3,))])
    workshop = make_workshop(student, make_target(backend, batch_sizes=batch_sizes))
    builder = trt.Builder(workshop.logger)
    network = builder.create_network(1)
    parser = trt.OnnxParser(network, workshop.logger)
    assert parser.parse_from_file(str(student.files["onnx"]))
    made = builder.create_optimization_profile()
    workshop._fix_shapes(network, made, size)
    assert tuple(network.get_input(0).shape) == shape
    assert [tuple(dims) for dims in made.get_shape("x")] == profile


@pytest.mark.parametrize(
    ("precision", "allowed"), [("fp32", False), ("fp16", False), ("bf16", False), ("tf32", True)]
)
def test_tf32_is_allowed_where_it_was_asked_for_and_nowhere_else(backend, student, precision, allowed):
    config = configured(make_workshop(student, make_target(backend, precision=precision)))
    assert config.get_flag(trt.BuilderFlag.TF32) is allowed


def test_tf32_that_the_environment_forbids_is_refused(backend, student, tmp_path, monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    with pytest.raises(Unsupported, match="NVIDIA_TF32_OVERRIDE is 0") as caught:
        backend.compile(student, make_target(backend, precision="tf32"), tmp_path)
    assert caught.value.hint == "unset NVIDIA_TF32_OVERRIDE"


def test_options_reach_the_builder(backend, student):
    options = {"optimization_level": 1, "workspace_mib": 64}
    config = configured(make_workshop(student, make_target(backend, options)))
    assert config.builder_optimization_level == 1
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert not config.get_flag(trt.BuilderFlag.REFIT)


def test_defaults_leave_the_builder_its_own(backend, student):
    config = configured(make_workshop(student, make_target(backend)))
    untouched = trt.Builder(make_workshop(student, make_target(backend)).logger).create_builder_config()
    assert config.builder_optimization_level == untouched.builder_optimization_level
    workspace = trt.MemoryPoolType.WORKSPACE
    assert config.get_memory_pool_limit(workspace) == untouched.get_memory_pool_limit(workspace)


@pytest.mark.parametrize("graph", [True, False])
def test_an_engine_that_is_to_be_recorded_is_built_for_it(backend, student, graph):
    config = configured(make_workshop(student, make_target(backend, {"graph": graph})))
    assert config.get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION) is graph


@pytest.mark.parametrize(("gpu", "kinds"), [(ADA, ["SM89"]), (HOPPER, []), (None, [])])
def test_the_builder_aims_at_the_gpu_that_it_knows_and_at_the_default_otherwise(backend, student, gpu, kinds):
    workshop = make_workshop(student, make_target(backend), gpu)
    config = configured(workshop)
    untouched = trt.Builder(workshop.logger).create_builder_config().num_compute_capabilities
    found = [config.get_compute_capability(index).name for index in range(config.num_compute_capabilities)]
    assert found == kinds or (not kinds and len(found) == untouched)
    assert workshop.build(1).blob


@pytest.mark.parametrize("option", [{"optimization_level": 0}, {"optimization_level": 5}, {"graph": False}])
def test_every_option_builds(backend, student, tmp_path, option):
    assert backend.compile(student, make_target(backend, option), tmp_path).files


def test_the_layers_that_are_kept_say_what_they_compute_in(backend, student, tmp_path):
    for precision in ("fp32", "fp16", "bf16"):
        (tmp_path / precision).mkdir()
        kept = layers_of(
            backend.compile(student, make_target(backend, precision=precision), tmp_path / precision)
        )
        layers = kept["batch-1.engine"]["network"]
        products = [layer for layer in layers if layer["type"] in ("CONVOLUTION", "MATRIX_MULTIPLY")]
        assert products
        assert {layer["precision"] for layer in products} == {precision}
        assert all(layer["name"] for layer in layers)
        # No device was there to open the engine on.
        assert kept["batch-1.engine"]["engine"] == []


def test_an_artifact_survives_json_and_another_folder(backend, student, tmp_path):
    (tmp_path / "draft").mkdir()
    target = make_target(backend, precision="fp16", batch_sizes=(1, 8))
    artifact = backend.compile(student, target, tmp_path / "draft")
    text = artifact_to_json(artifact, tmp_path / "draft", student)
    (tmp_path / "draft").rename(tmp_path / "kept")
    stored = read(artifact_from_json(text, tmp_path / "kept", student))
    assert set(stored.engines) == {1, 8}
    assert stored.engines[8].read_bytes()
    assert stored.model.is_file()
    assert stored.signature == Signature(student.inputs, student.outputs)
    assert stored.built["version"] == trt.__version__
    assert stored.layers[8]


def test_the_artifact_can_be_built_again_from_what_it_holds(backend, student, tmp_path):
    target = make_target(backend, precision="fp16")
    stored = read(backend.compile(student, target, tmp_path))
    workshop = Workshop(RTX, stored.model, stored.signature, target, None, stored.timing)
    assert len(workshop.build(1).blob) == stored.engines[1].stat().st_size


def test_an_engine_of_another_version_or_gpu_is_told_apart():
    here = built_for("11.4.0", ADA)
    assert not unlike(here, built_for("11.4.0", replace(ADA, index=1)))
    assert "version 11.4.0, and this is 11.4.1" in unlike(here, built_for("11.4.1", ADA), portable=True)
    assert not unlike(here, built_for("11.4.1", ADA), lasting=True)
    other = unlike(here, built_for("11.4.0", HOPPER))
    assert "NVIDIA L4 (8.9), and this is NVIDIA H100 (9.0)" in other
    assert not unlike(here, built_for("11.4.0", HOPPER), portable=True)


def test_all_that_decides_what_an_engine_is_names_the_cached_artifact():
    """Beside these versions: the device with its uuid, and the probe's version with the driver's in it."""
    assert {"tensorrt-rtx", "tensorrt-rtx-cu13-libs", "cuda-bindings", "onnx"} <= set(
        HOOKS.kdbench_describe().distributions
    )


def test_nothing_is_written_into_the_bundle(backend, student, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in student.root.rglob("*")}
    backend.compile(student, make_target(backend, precision="bf16"), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in student.root.rglob("*")} == before


def test_an_operator_that_the_parser_does_not_know_is_told_with_its_node(backend, tmp_path):
    node = helper.make_node("Scaler", ["x"], ["y"], "scaled", domain="ai.onnx.ml", offset=[0.0], scale=[2.0])
    student = make_student(
        tmp_path / "s", [node], [("x", (3,))], [("y", (3,))], opsets=(("", 17), ("ai.onnx.ml", 3))
    )
    with pytest.raises(Unsupported, match=r"node 'scaled' \(Scaler\): .*Plugin not found") as caught:
        backend.compile(student, make_target(backend), tmp_path)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_shapes_that_do_not_fit_are_told_in_the_parsers_own_words(backend, tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    weights = [("w", np.ones((5, 4), np.float32))]
    student = make_student(tmp_path / "s", [node], [("x", (3,))], [("y", (4,))], weights)
    with pytest.raises(Unsupported, match=r"node 'product' \(MatMul\).* = 3 .* = 5 but must match") as caught:
        backend.compile(student, make_target(backend), tmp_path)
    assert "_src" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_many_errors_the_first_three_are_told_and_the_rest_are_counted(backend, tmp_path):
    names = ["x", "a", "b", "c", "d", "y"]
    nodes = [
        helper.make_node("Frobnicate", [names[i]], [names[i + 1]], f"step-{i}") for i in range(len(names) - 1)
    ]
    student = make_student(tmp_path / "s", nodes, [("x", (3,))], [("y", (3,))])
    with pytest.raises(Unsupported, match=r"'step-0'.*'step-1'.*'step-2'.*; and 2 more") as caught:
        backend.compile(student, make_target(backend), tmp_path)
    assert "step-3" not in str(caught.value)


def test_a_file_that_is_no_network_is_told_in_one_sentence(backend, student, tmp_path):
    (tmp_path / "torn.onnx").write_bytes(b"not a network")
    torn = replace(student, files={"onnx": tmp_path / "torn.onnx"})
    with pytest.raises(BackendError, match="cannot read") as caught:
        backend.compile(torn, make_target(backend), tmp_path)
    assert "\n" not in str(caught.value)


def test_inputs_that_are_not_those_of_the_card_are_refused(backend, student, tmp_path):
    other = replace(student, inputs=(TensorSpec("pictures", (3, 16, 16), "float32"),))
    with pytest.raises(Unsupported, match=r"'images': 'float32'.*the card has .*'pictures'"):
        backend.compile(other, make_target(backend), tmp_path)


def test_a_network_that_cannot_be_built_is_told_with_the_builders_words(backend, tmp_path):
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], "reshaped")
    student = make_student(tmp_path / "s", [node], [("x", (3,))], [("y", (5,))])
    model = onnx.load(student.files["onnx"])
    model.graph.initializer.append(helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [1, 5]))
    onnx.save(model, student.files["onnx"])
    with pytest.raises(BackendError) as caught:
        backend.compile(student, make_target(backend), tmp_path)
    assert "TensorRT for RTX cannot" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_quantised_network_is_refused_with_a_hint(backend, student, tmp_path):
    with pytest.raises(Unsupported, match="quantised") as caught:
        backend.compile(replace(student, precision="int8"), make_target(backend), tmp_path)
    assert caught.value.hint


def test_a_student_without_onnx_is_refused(backend, student, tmp_path):
    with pytest.raises(Unsupported, match="no ONNX file"):
        backend.compile(replace(student, files={}), make_target(backend), tmp_path)


def test_loading_without_a_gpu_is_told_in_one_sentence(backend, student, tmp_path, monkeypatch):
    monkeypatch.setattr("kdbench_tensorrt.session.find_gpu", lambda device: None)
    target = make_target(backend)
    artifact = backend.compile(student, target, tmp_path)
    with pytest.raises(BackendError, match=r"needs the GPU cuda:0, and CUDA sees no such GPU") as caught:
        backend.load(artifact, target)
    assert caught.value.phase == "load"


def test_an_engine_that_does_not_open_is_built_again_and_the_reason_told_if_that_fails_too(
    backend, student, tmp_path, capsys, monkeypatch
):
    """As without a device, where none opens; all the way through the rebuild is the real one."""
    monkeypatch.setattr(
        opening, "deserialise", lambda workshop, blob: workshop.logger.errors.append("no GPU")
    )
    target = make_target(backend)
    workshop = make_workshop(student, target)
    stored = read(backend.compile(student, target, tmp_path))
    with pytest.raises(BackendError, match="cannot open the engine, nor one built anew: no GPU") as caught:
        open_engine(workshop, stored, 1)
    assert "\n" not in str(caught.value)
    assert "batch-1.engine is built again: it does not open: no GPU" in capsys.readouterr().err


def test_without_a_device_no_engine_opens_and_tensorrt_says_why(backend, student, tmp_path):
    if not isinstance(look(), Unavailable):
        pytest.skip("There is a GPU.")
    target = make_target(backend)
    workshop = make_workshop(student, target)
    with pytest.raises(BackendError, match="CUDA driver version is insufficient"):
        open_engine(workshop, read(backend.compile(student, target, tmp_path)), 1)


def test_an_engine_that_needed_more_memory_than_there_is_is_not_built_again(
    backend, student, tmp_path, monkeypatch
):
    def full(workshop, blob):
        workshop.logger.errors.append("Error Code 2: OutOfMemory (Requested size was 1 bytes.)")

    monkeypatch.setattr(opening, "deserialise", full)
    target = make_target(backend)
    stored = read(backend.compile(student, target, tmp_path))
    with pytest.raises(BackendError, match="out of memory"):
        open_engine(make_workshop(student, target), stored, 1)


def test_an_engine_of_another_version_is_built_again_and_says_so(backend, student, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "deserialise", lambda workshop, blob: (None, SimpleNamespace(blob=blob)))
    target = make_target(backend)
    stored = read(backend.compile(student, target, tmp_path))
    older = replace(stored, built={**stored.built, "version": "1.2.0"})
    assert not open_engine(make_workshop(student, target), stored, 1).rebuilt
    opened = open_engine(make_workshop(student, target), older, 1)
    assert opened.rebuilt == f"it was built by version 1.2.0, and this is {trt.__version__}"
    assert len(opened.engine.blob) == stored.engines[1].stat().st_size


def test_what_tensorrt_says_goes_to_the_log_and_not_to_the_answers(backend, student, tmp_path, capsys):
    backend.compile(student, make_target(backend), tmp_path)
    assert not capsys.readouterr().out


def test_compiling_imports_no_torch(backend, student, tmp_path):
    import subprocess

    script = (
        "import sys; from pathlib import Path; from kdbench.backends import connect;"
        "from kdbench.options import check_options; from kdbench.spec import Target;"
        "from kdbench.student import open_student; from kdbench_tensorrt.rtx import HOOKS;"
        "backend = connect('tensorrt-rtx', HOOKS);"
        "target = Target(device='cuda:0', precision='fp16', options=check_options(backend.info, {}));"
        "backend.compile(open_student('digits-2x5'), target, Path(sys.argv[1]));"
        "print(sorted({'torch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_operator_that_has_no_bf16_stays_in_fp32(backend, tmp_path, monkeypatch):
    monkeypatch.setattr("kdbench.casting.samples", lambda student: ())
    nodes = [helper.make_node("HardSwish", ["x"], ["h"]), helper.make_node("Add", ["h", "h"], ["y"])]
    student = make_student(tmp_path / "bundle", nodes, [("x", (4,))], [("y", (4,))])
    artifact = backend.compile(student, make_target(backend, precision="bf16"), tmp_path)
    layers = json.loads(next(file for file in artifact.files if file.name == "layers.json").read_text())
    assert {"bf16", "fp32"} <= {layer["precision"] for layer in layers["batch-1.engine"]["network"]}


def test_what_timing_taught_waits_on_the_shelf_for_the_next_compilation(tmp_path):
    assert compiling._timing_on(tmp_path) == compiling._timing_on(None) == b""
    compiling._keep_timing(tmp_path, b"learnt")
    compiling._keep_timing(tmp_path, b"")
    compiling._keep_timing(None, b"lost")
    assert compiling._timing_on(tmp_path) == b"learnt"
    assert [file.name for file in tmp_path.iterdir()] == ["timing.cache"]


def test_compiling_without_the_library_says_what_to_install(backend, student, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(Unsupported, match="TensorRT for RTX cannot be imported") as told:
        backend.compile(student, make_target(backend), tmp_path)
    assert told.value.hint == "pip install tensorrt-rtx cuda-bindings onnx"
