"""Students unlike the embedded one, on real backends: directly, and through real workers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

import kdbench_numpy
import kdbench_onnxruntime
import kdbench_openvino
import kdbench_torch.cpu
from kdbench import Target, Unsupported, bench
from kdbench.accuracy import TOLERANCE
from kdbench.backends import connect
from kdbench.options import check_options
from kdbench.request import Request, fitted
from kdbench.student import load_evaluation
from tests.odd_students import KINDS, odd
from tests.test_bench import LATENCY_ALONE

pytest.importorskip("onnx")

MODULES = {
    "numpy": kdbench_numpy,
    "onnxruntime": kdbench_onnxruntime,
    "openvino": kdbench_openvino,
    "torch-cpu": kdbench_torch.cpu,
}
ONNX = ("onnxruntime", "openvino")


@pytest.fixture(params=ONNX)
def backend(request):
    """Give each backend that reads ONNX."""
    pytest.importorskip(request.param)
    return connect(request.param, MODULES[request.param])


def target_of(backend, student, **changes) -> Target:
    facts = {
        "device": "cpu",
        "precision": student.precision,
        "batch_sizes": (student.batch or 4,),
        "options": check_options(backend.info, changes.pop("chosen", {})),
    }
    return Target(**{**facts, **changes})


def opened(backend, student, folder, **changes):
    target = target_of(backend, student, **changes)
    folder.mkdir()
    return backend.load(backend.compile(student, target, folder), target), target.batch_sizes[0]


def answers(backend, session, student, batch):
    """Run the whole split in batches; it divides evenly."""
    runner, inputs = backend.run(session, batch), load_evaluation(student).inputs[0]
    return np.concatenate(
        [runner((inputs[at : at + batch],))[0].copy() for at in range(0, len(inputs), batch)]
    )


@pytest.mark.parametrize("batch", [None, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_any_input_layout_precision_and_rank_is_answered_as_the_reference_answers(
    backend, kind, batch, tmp_path
):
    student = odd(tmp_path / "bundle", kind, batch=batch)
    session, size = opened(backend, student, tmp_path / "work")
    found, evaluation = answers(backend, session, student, size), load_evaluation(student)
    assert found.dtype.name == student.outputs[0].dtype
    deviation = np.abs(found - evaluation.logits).max() / evaluation.logits.std()
    assert deviation <= TOLERANCE[student.precision]
    session.close()


@pytest.mark.parametrize("kind", ["uint8-nhwc", "int8"])
def test_one_shape_for_all_batch_sizes_serves_odd_students_too(backend, kind, tmp_path):
    student = odd(tmp_path / "bundle", kind)
    session, _ = opened(backend, student, tmp_path / "work", dynamic=True, batch_sizes=(1, 8))
    found = [answers(backend, session, student, batch) for batch in (1, 8)]
    assert np.abs(found[0] - found[1]).max() <= 0.1 * load_evaluation(student).logits.std()


def test_what_is_computed_in_is_told_as_the_runtime_tells_it(backend, tmp_path):
    placed = {
        kind: opened(backend, odd(tmp_path / kind, kind), tmp_path / f"{kind}-work")[0].placement
        for kind in ("fp16", "int8", "vector")
    }
    [cpu] = [device for device in backend.probe().devices if device.id == "cpu"]
    native = "fp16" in cpu.precisions
    assert placed["int8"].precision == "int8"
    assert placed["fp16"].precision == ("fp16" if native else "fp32")
    assert placed["vector"].precision == "fp32"


def test_a_quantised_network_that_is_not_optimised_is_computed_in_fp32_and_said_to_be(tmp_path):
    pytest.importorskip("onnxruntime")
    backend = connect("onnxruntime", kdbench_onnxruntime)
    student = odd(tmp_path / "bundle", "int8")
    session, _ = opened(backend, student, tmp_path / "work", chosen={"optimization": "none"})
    assert session.placement.precision == "fp32"


@pytest.mark.parametrize(
    ("kind", "precision", "told", "hint"),
    [
        ("vector", "int8", "stored in fp32", "Quantise its ONNX file, and import that"),
        ("int8", "fp32", "stored in int8", "Ask for --precision int8"),
    ],
)
def test_openvino_says_what_it_cannot_convert(kind, precision, told, hint, tmp_path):
    pytest.importorskip("openvino")
    backend, student = connect("openvino", kdbench_openvino), odd(tmp_path / "bundle", kind)
    with pytest.raises(Unsupported, match=told) as caught:
        backend.compile(student, target_of(backend, student, precision=precision), tmp_path)
    assert hint in caught.value.hint


@pytest.mark.parametrize(("kind", "precision"), [("vector", "int8"), ("vector", "fp16"), ("int8", "fp32")])
def test_onnxruntime_runs_a_network_as_it_is_stored_and_no_otherwise(kind, precision, tmp_path):
    pytest.importorskip("onnxruntime")
    backend, student = connect("onnxruntime", kdbench_onnxruntime), odd(tmp_path / "bundle", kind)
    with pytest.raises(Unsupported, match=f"not in {precision}") as caught:
        backend.compile(student, target_of(backend, student, precision=precision), tmp_path)
    assert f"to {precision}, and import that" in caught.value.hint


@pytest.mark.parametrize("name", ["numpy", "torch-cpu"])
def test_backends_that_build_networks_refuse_one_that_exists_as_onnx_only(name, tmp_path):
    pytest.importorskip("torch" if name == "torch-cpu" else "numpy")
    backend, student = connect(name, MODULES[name]), odd(tmp_path / "bundle", "vector")
    with pytest.raises(Unsupported) as caught:
        backend.compile(student, target_of(backend, student), tmp_path)
    assert "onnxruntime" in caught.value.hint


def run(student, tmp_path, backends=(*ONNX, "numpy"), **plan):
    """Measure a student as the command line would have it without an option, in one small block."""
    profile, notes = fitted(LATENCY_ALONE, student, precisions_asked=False, batches_asked=False)
    profile = structs.replace(
        profile,
        plan=structs.replace(profile.plan, **plan),
        latency=structs.replace(profile.latency, blocks=1, rounds=1),
    )
    for name in backends:
        if name != "numpy":
            pytest.importorskip(name)
    request = Request(
        student=student, profile=profile, output=tmp_path / "r.json", backends=backends, notes=notes
    )
    result = bench.run(request)
    return result, {one.cell.backend: one for one in result.cells}


def test_a_quantised_student_is_measured_in_int8_and_not_called_a_fallback(tmp_path):
    result, rows = run(odd(tmp_path / "bundle", "int8"), tmp_path)
    for name in ONNX:
        row = rows[name]
        assert (row.status, row.reason, row.cell.precision) == ("measured", "", "int8")
        assert (row.placement.precision, row.placement.fallback) == ("int8", False)
        assert row.accuracy.correct is not None
        assert row.eligible
    assert (rows["numpy"].status, rows["numpy"].phase) == ("unsupported", "plan")
    assert rows["numpy"].reason == "NumPy does not offer int8; it has fp32."
    assert rows["numpy"].fix == "Backends here that offer int8: onnxruntime, openvino."
    assert "stored in int8" in result.run.notes[0]


def test_an_fp16_student_that_is_computed_in_fp32_is_measured_and_doubted(tmp_path):
    _, rows = run(odd(tmp_path / "bundle", "fp16"), tmp_path, backends=("onnxruntime",))
    row = rows["onnxruntime"]
    assert (row.status, row.reason, row.cell.precision) == ("measured", "", "fp16")
    assert row.placement.precision in ("fp16", "fp32")
    told = [check.message for check in row.checks if check.id == "precision"]
    assert told == (
        [] if row.placement.precision == "fp16" else ["it computes in fp32 what is stored in fp16"]
    )


def test_a_student_without_labels_and_with_a_batch_size_built_in_has_a_row_and_no_accuracy(tmp_path):
    student = odd(tmp_path / "bundle", "uint8-nhwc", batch=8, labelled=False)
    result, rows = run(student, tmp_path)
    assert {one.cell.batch for one in result.cells} == {8}
    assert result.run.notes[0].startswith("The network takes batches of 8 only, in place of")
    assert (result.subject.labelled, result.subject.trained) == (False, True)
    for name in ONNX:
        row = rows[name]
        assert (row.status, row.reason) == ("measured", "")
        assert (row.accuracy.correct, row.accuracy.reason) == (None, "no labels")
        assert (row.accuracy.flips, row.eligible) == (0, True)
    assert (rows["numpy"].status, rows["numpy"].phase) == ("unsupported", "compile")
    assert "not an ONNX graph" in rows["numpy"].reason
    assert "onnxruntime" in rows["numpy"].fix


def test_an_untrained_student_has_no_accuracy_and_the_reason(tmp_path):
    _, rows = run(odd(tmp_path / "bundle", "vector", trained=False), tmp_path, backends=("onnxruntime",))
    accuracy = rows["onnxruntime"].accuracy
    assert (accuracy.correct, accuracy.reference_correct, accuracy.reason) == (None, None, "untrained")


def test_a_profile_is_left_alone_by_a_student_that_takes_anything_or_where_the_user_asked(tmp_path):
    plain, static = odd(tmp_path / "plain", "vector"), odd(tmp_path / "static", "int8", batch=8)
    asked = {"precisions_asked": True, "batches_asked": True}
    assert fitted(LATENCY_ALONE, plain, precisions_asked=False, batches_asked=False) == (LATENCY_ALONE, ())
    assert fitted(LATENCY_ALONE, static, **asked) == (LATENCY_ALONE, ())
    same = replace(static, precision="fp32", batch=1)
    assert fitted(LATENCY_ALONE, same, precisions_asked=False, batches_asked=False) == (LATENCY_ALONE, ())
