"""Torch networks: by their name, with weights of every kind, and as exported programs."""

from __future__ import annotations

import os
import pickle
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
safetensors = pytest.importorskip("safetensors.torch")

from kdbench.distill.nets import build  # noqa: E402
from kdbench.errors import KdbenchError  # noqa: E402
from kdbench.intake import Ask, Taken, take  # noqa: E402
from kdbench.student import load_evaluation, open_student, read_card  # noqa: E402

SOURCE = """
    import torch
    from torch import nn


    class Small(nn.Module):
        def __init__(self, classes=3, width=4):
            super().__init__()
            self.conv = nn.Conv2d(3, width, 3)
            self.head = nn.Linear(width, classes)

        def features(self, x):
            return torch.relu(self.conv(x)).mean((2, 3))

        def forward(self, x):
            return self.head(self.features(x))


    class Both(Small):
        def forward(self, x):
            found = self.features(x)
            return {"scores": self.head(found), "features": found}


    class Probability(Small):
        def forward(self, x):
            return torch.sigmoid(super().forward(x))


    class OneByOne(Small):
        def forward(self, x):
            return self.head(self.features(x).view(1, -1))


    class Fickle(Small):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else super().forward(-x)


    def pretrained():
        network = Small()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
        return network


    def broken():
        raise OSError("no weights here")


    def nothing():
        return 7
"""
SHAPE = (3, 8, 8)


@pytest.fixture(autouse=True)
def my_nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a module in the working folder, as a user would have it."""
    home = tmp_path / "work"
    home.mkdir()
    (home / "my_own_nets.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.chdir(home)
    yield
    import sys

    sys.modules.pop("my_own_nets", None)


def imported(model: str, folder: Path, **asked: Any) -> Taken:
    return take(Ask(model=model, **{"output": folder / "bundle", "shape": SHAPE, **asked}))


def refusal(model: str, folder: Path, **asked: Any) -> str:
    with pytest.raises(KdbenchError) as caught:
        imported(model, folder, **asked)
    assert "\n" not in caught.value.message
    assert not (folder / "bundle").exists()
    return str(caught.value)


def weights(folder: Path, factory: str = "tiny-student", **arguments: Any) -> Path:
    path = folder / "weights.safetensors"
    safetensors.save_file(build(factory, arguments, seed=3).state_dict(), path)
    return path


def test_an_installed_network_is_kept_as_torch_takes_it_and_as_onnx(tmp_path):
    asked = {"shape": (3, 16, 16), "arguments": (("classes", 3),), "weights": weights(tmp_path, classes=3)}
    taken = imported("tiny-student", tmp_path, **asked)
    student = open_student(taken.student.root)
    assert (student.factory, dict(student.arguments)) == ("tiny-student", {"classes": 3})
    assert {"weights", "onnx"} <= set(student.files)
    assert (student.parameters, student.macs) == (6_186 + 65, 186_368 + 64)
    network = build("tiny-student", {"classes": 3}).eval()
    network.load_state_dict(safetensors.load_file(student.files["weights"]))
    evaluation = load_evaluation(student)
    with torch.inference_mode():
        answers = network(torch.from_numpy(evaluation.inputs[0])).numpy()
    np.testing.assert_allclose(answers, evaluation.logits, rtol=1e-5, atol=1e-6)
    assert taken.reason == "no labels"


def labelled(folder: Path, *shape: int) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (9, *shape), dtype=np.uint8)
    np.savez(folder / "test.npz", images=images, labels=np.zeros(9, int))
    return folder / "test.npz"


def test_a_network_named_by_what_its_entry_point_names_is_that_and_random_weights_are_untrained(tmp_path):
    evaluation = labelled(tmp_path, 3, 16, 16)
    taken = imported("kdbench.distill.nets:tiny_student", tmp_path, shape=(), evaluation=evaluation)
    assert taken.student.factory == "tiny-student"
    assert (taken.correct, taken.reason) == (None, "untrained")
    assert load_evaluation(taken.student).labels is None


def test_any_factory_is_imported_as_onnx_for_the_size_of_the_images_given(tmp_path):
    evaluation = labelled(tmp_path, 8, 8, 3)
    taken = imported("my_own_nets:pretrained", tmp_path, shape=(), evaluation=evaluation)
    assert (taken.student.factory, set(taken.student.files)) == (None, {"onnx", "evaluation", "reference"})
    assert taken.student.inputs[0].shape == SHAPE
    assert taken.student.parameters == 4 * 27 + 4 + 4 * 3 + 3
    assert any('my-network = "my_own_nets:pretrained"' in note for note in taken.notes)
    assert taken.correct is not None


@pytest.mark.parametrize(
    ("model", "asked", "says"),
    [
        ("my_own_nets:Smal", {}, "my_own_nets has no Smal"),
        ("no_such_module:net", {}, "finds no module no_such_module"),
        ("resnet19", {}, "Did you mean resnet18?"),
        ("my_own_nets:nothing", {}, "int"),
        ("my_own_nets:broken", {}, "no weights here"),
        ("my_own_nets:Small", {"arguments": (("clases", 3),)}, "clases"),
        ("my_own_nets:Small", {"shape": (4, 8, 8)}, "does not take images of 4x8x8"),
        ("my_own_nets:Small", {"shape": ()}, "Say it with --shape"),
        ("my_own_nets:Fickle", {}, "torch cannot export the network"),
    ],
)
def test_a_network_that_cannot_be_had_is_a_sentence(tmp_path, model, asked, says):
    assert says in refusal(model, tmp_path, **asked)


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path):
    told = refusal("tiny-student", tmp_path, weights=weights(tmp_path, classes=5), shape=(3, 16, 16))
    assert "'head.weight' is (5, 64), not (2, 64)" in told
    told = refusal("my_own_nets:Small", tmp_path, weights=weights(tmp_path))
    assert "it lacks 'conv.weight', 'conv.bias'" in told


def test_weights_that_are_no_numbers_or_no_file_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.save_file({"conv.weight": torch.full((4, 3, 3, 3), torch.nan), **_rest()}, path)
    assert "'conv.weight' holds NaN" in refusal("my_own_nets:Small", tmp_path, weights=path)
    path.write_bytes(b"nothing")
    assert "cannot be read as safetensors" in refusal("my_own_nets:Small", tmp_path, weights=path)
    assert "cannot be read" in refusal("my_own_nets:Small", tmp_path, weights=tmp_path / "none.safetensors")


def _rest() -> dict[str, Any]:
    return {"conv.bias": torch.ones(4), "head.weight": torch.ones(3, 4), "head.bias": torch.ones(3)}


def test_a_pickle_is_not_opened_without_trust_and_only_for_its_tensors_with_it(tmp_path):
    path = tmp_path / "w.pt"
    state = {"conv.weight": torch.ones(4, 3, 3, 3), **_rest()}
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    assert "add --trust-code" in refusal("my_own_nets:Small", tmp_path, weights=path)
    taken = imported("my_own_nets:Small", tmp_path, weights=path, trust_code=True)
    assert read_card(taken.student).trained


class Bomb:
    """A pickle that would write a file when it is opened."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.target,)


def test_code_in_a_pickle_is_not_run_even_with_trust(tmp_path):
    path, target = tmp_path / "w.pt", tmp_path / "touched"
    torch.save({"weights": Bomb(target)}, path)
    told = refusal("my_own_nets:Small", tmp_path, weights=path, trust_code=True)
    assert "holds more than tensors" in told
    assert not target.exists()
    torch.save([1, 2], path)
    told = refusal("my_own_nets:Small", tmp_path, weights=path, trust_code=True)
    assert "holds no state dict" in told


def test_several_outputs_are_refused_until_one_is_chosen(tmp_path):
    told = refusal("my_own_nets:Both", tmp_path)
    assert "2 outputs ('logits' (batch, 3), 'mean' (batch, 4))" in told
    taken = imported("my_own_nets:Both", tmp_path, output_tensor="mean")
    assert taken.student.outputs[0].shape == (4,)


def test_one_probability_becomes_two_and_torch_agrees(tmp_path):
    taken = imported("my_own_nets:Probability", tmp_path, arguments=(("classes", 1),))
    np.testing.assert_allclose(load_evaluation(taken.student).logits.sum(axis=1), 1.0, atol=1e-6)


def test_an_installed_network_whose_output_is_changed_is_kept_as_onnx_alone(tmp_path):
    asked = {"shape": (3, 16, 16), "arguments": (("classes", 1),), "meaning": "logits"}
    taken = imported("tiny-student", tmp_path, **asked)
    assert (taken.student.factory, "weights" in taken.student.files) == (None, False)
    assert any("otherwise than as a row of scores" in note for note in taken.notes)


def test_a_network_for_one_image_at_a_time_stays_so(tmp_path):
    assert imported("my_own_nets:OneByOne", tmp_path).student.batch == 1


def test_an_exported_program_needs_trust_and_then_is_a_bundle(tmp_path):
    network = build("tiny-student", {"classes": 3}, seed=3).eval()
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(network, (torch.zeros(4, 3, 16, 16),)), path)
    assert "can run code" in refusal(str(path), tmp_path, shape=())
    taken = imported(str(path), tmp_path, shape=(), trust_code=True)
    assert (taken.student.batch, taken.student.factory) == (None, None)
    assert taken.student.parameters == 6_186 + 65
    assert taken.student.inputs[0].shape == (3, 16, 16)
    assert "its batch size of 4 is any now" in taken.changes


def test_a_file_that_is_no_exported_program_is_refused(tmp_path):
    path = tmp_path / "net.pt2"
    path.write_bytes(b"nothing")
    assert "cannot be loaded as an exported program" in refusal(
        str(path), tmp_path, shape=(), trust_code=True
    )


def test_weights_alone_are_no_model(tmp_path):
    told = refusal(str(weights(tmp_path)), tmp_path)
    assert "package.module:factory --weights weights.safetensors" in told


def test_weights_in_a_pipe_are_refused_and_it_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    told = refusal("my_own_nets:Small", tmp_path, weights=tmp_path / "pipe.safetensors")
    assert "is not a file" in told


def test_what_torch_prints_of_a_pickle_is_not_passed_on(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps({"weight": 1}, protocol=4))
    told = refusal("my_own_nets:Small", tmp_path, weights=path, trust_code=True)
    assert "state dict" in told
