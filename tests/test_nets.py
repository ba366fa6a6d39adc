"""Networks have the size that is written of them, train, answer each image alone, and leave torch whole."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from kdbench.card import NETWORKS
from kdbench.distill.export import to_onnx
from kdbench.distill.nets import TinyNet, Unit, build, count_macs, count_parameters
from kdbench.distill.nets.mobilenet import round_channels
from kdbench.errors import RecipeError
from kdbench.student import load_evaluation, open_student

torch = pytest.importorskip("torch")

OWN = (
    "mobilenetv3-small",
    "pooled-teacher",
    "resnet8",
    "resnet10",
    "resnet18",
    "tiny-student",
    "tiny-teacher",
)

NARROW: dict[str, dict[str, Any]] = {
    "mobilenetv3-small": {"width": 0.25, "stem_stride": 1},
    "pooled-teacher": {"channels": (8, 12, 16, 24), "pool": 2},
    "resnet8": {"channels": (8, 16, 32), "stem": "small"},
    "resnet10": {"channels": (8, 12, 16, 24)},
    "tiny-student": {},
}
"""One of each kind, every stem, made small where it can be."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread: where others compute too, several wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_images(count: int = 6, size: int = 32) -> Any:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(5))


def lived_in(factory: str) -> Any:
    """Build a narrow network whose batch statistics are no longer those of an untrained one."""
    network = build(factory, NARROW[factory])
    with torch.no_grad():
        for _ in range(3):
            network(some_images())
    return network.eval()


# --- size and form -------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", OWN)
def test_a_factory_tells_what_its_network_costs(factory: str) -> None:
    (entry,) = entry_points(group=NETWORKS, name=factory)
    told = " ".join(inspect.getdoc(entry.load()).split())  # type: ignore[union-attr]
    found = re.search(r"([\d,]+) parameters, ([\d,]+) MACs at 3x(\d+)x\3", told)
    assert found, told
    parameters, macs, size = (int(number.replace(",", "")) for number in found.groups())
    network = build(factory, {})
    assert count_parameters(network) == parameters
    assert count_macs(network, (3, size, size)) == macs


def test_the_large_networks_are_as_large_as_their_papers_say() -> None:
    # With 1000 classes: table 1 of the ResNet paper and the usual 11.69 M; 2.5 M in the MobileNetV3 paper.
    assert count_parameters(build("resnet18", {"classes": 1000})) == 11_689_512
    assert count_parameters(build("mobilenetv3-small", {"classes": 1000})) == 2_542_856


@pytest.mark.parametrize("factory", OWN)
def test_every_network_takes_images_of_many_sizes(factory: str) -> None:
    network = build(factory, {"classes": 3}).eval()
    for size in (16, 32, 64, 96, 224):
        images = some_images(1, size)
        before = images.clone()
        with torch.inference_mode():
            logits = network(images)
        assert logits.shape == (1, 3)
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()
        assert torch.equal(images, before)


def test_images_need_not_be_square_or_fill_the_last_pool() -> None:
    for factory in OWN:
        with torch.inference_mode():
            assert build(factory, {}).eval()(torch.zeros(1, 3, 33, 46)).shape == (1, 2)


@given(size=st.integers(1, 20), stride=st.integers(1, 3), kernel=st.sampled_from([1, 3, 5, 7]))
@settings(deadline=None, max_examples=40)
def test_a_unit_keeps_the_size_up_to_its_stride(size: int, stride: int, kernel: int) -> None:
    unit = Unit(2, 3, kernel=kernel, stride=stride).eval()
    with torch.inference_mode():
        assert unit(torch.zeros(1, 2, size, size)).shape == (1, 3, -(-size // stride), -(-size // stride))


@given(st.floats(0.01, 5000))
def test_channels_are_rounded_to_eights_and_lose_no_tenth(channels: float) -> None:
    rounded = round_channels(channels)
    assert rounded % 8 == 0
    assert 0.9 * channels <= rounded < channels + 8


def test_half_the_width_costs_about_a_quarter() -> None:
    whole, half = (count_macs(build("mobilenetv3-small", {"width": w}), (3, 64, 64)) for w in (1.0, 0.5))
    assert 0.25 < half / whole < 0.5


@pytest.mark.parametrize(
    ("factory", "arguments"), [("mobilenetv3-small", {"stem_stride": 1}), ("resnet8", {"stem": "small"})]
)
def test_the_stems_for_small_images_keep_all_of_them(factory: str, arguments: dict[str, Any]) -> None:
    with torch.inference_mode():
        large, small = (build(factory, given).features[0](some_images()) for given in ({}, arguments))
    assert small.shape[2:] == (32, 32)
    assert large.shape[2] <= 16


def test_the_pooled_teacher_is_the_tiny_teacher_on_a_coarser_view() -> None:
    tiny, pooled = build("tiny-teacher", {}).eval(), build("pooled-teacher", {}, seed=1).eval()
    pooled.load_state_dict(tiny.state_dict())
    fine = some_images(3, 64)
    coarse = fine.reshape(3, 3, 16, 4, 16, 4).mean((3, 5))
    with torch.inference_mode():
        assert torch.allclose(pooled(fine), tiny(coarse), atol=1e-5)


def test_the_tiny_networks_name_their_weights_as_the_page_says() -> None:
    network = build("tiny-student", {})
    assert isinstance(network, TinyNet)
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    unit = ("conv.weight", *(f"norm.{name}" for name in norm))
    assert list(network.state_dict()) == [
        *(f"features.{index}.{name}" for index in range(7) for name in unit),
        "head.weight",
        "head.bias",
    ]


def test_the_weights_of_the_embedded_student_still_fit_and_answer_the_same() -> None:
    from safetensors.torch import load_file

    student = open_student("digits-2x5")
    evaluation = load_evaluation(student)
    network = build(student.factory or "", student.arguments).eval()
    network.load_state_dict(load_file(student.files["weights"]))
    with torch.inference_mode():
        logits = network(torch.from_numpy(evaluation.inputs[0])).numpy()
    assert np.abs(logits - evaluation.logits).max() <= 1e-3


# --- drawing and training ------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", OWN)
def test_a_network_is_drawn_from_its_seed_and_leaves_the_random_state_alone(factory: str) -> None:
    before = torch.random.get_rng_state()
    one, same, other = (build(factory, {}, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    drawn = [name for name in one if name.endswith(("conv.weight", "head.weight"))]
    assert not any(torch.equal(one[name], other[name]) for name in drawn)


@pytest.mark.parametrize("factory", ["mobilenetv3-small", "resnet8", "resnet10", "resnet18"])
def test_signals_keep_an_ordinary_scale_through_an_untrained_network(factory: str) -> None:
    scales: dict[str, float] = {}
    network = build(factory, {}).eval()
    for name, layer in network.features.named_children():
        layer.register_forward_hook(lambda *call, name=name: scales.update({name: call[2].std().item()}))
    with torch.inference_mode():
        logits = network(some_images(4, 64))
    assert all(1e-2 < scale < 1e3 for scale in scales.values()), scales
    assert logits.std(0).min() > 1e-4


@pytest.mark.parametrize("factory", NARROW)
def test_a_few_steps_of_training_lower_the_loss(factory: str) -> None:
    network, images, labels = build(factory, NARROW[factory]), some_images(), torch.arange(6) % 2
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0], losses
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("factory", NARROW)
def test_nothing_in_a_network_is_random_while_it_runs(factory: str) -> None:
    network = build(factory, NARROW[factory])
    with torch.no_grad():
        assert torch.equal(network(some_images()), network(some_images()))


@pytest.mark.parametrize("factory", NARROW)
def test_the_answer_to_an_image_does_not_depend_on_its_neighbours(factory: str) -> None:
    network, images = lived_in(factory), some_images()
    with torch.inference_mode():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5 * float(together.abs().max()) + 1e-6)


# --- what other programs make of it --------------------------------------------------------------------


@dataclass(frozen=True)
class Exported:
    """A network, its ONNX form, images (6, 3, 32, 32) and what the network answers."""

    network: Any
    graph: bytes
    images: Any
    logits: Any

    def check(self, answers: Any) -> None:
        deviation = np.abs(np.asarray(answers) - self.logits[: len(answers)]).max()
        assert deviation <= 1e-3 * np.ptp(self.logits)


@pytest.fixture(scope="module", params=NARROW)
def exported(request: pytest.FixtureRequest) -> Exported:
    network, images = lived_in(request.param), some_images()
    with torch.inference_mode():
        logits = network(images).numpy()
    return Exported(network, to_onnx(network, (3, 32, 32)), images.numpy(), logits)


def test_onnx_runtime_answers_the_same_at_any_batch(exported: Exported) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.graph, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        exported.check(session.run(["logits"], {"images": exported.images[:batch]})[0])


def test_openvino_reads_the_onnx_form_and_answers_the_same(exported: Exported) -> None:
    openvino = pytest.importorskip("openvino")
    model = openvino.Core().read_model(model=exported.graph)
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for batch in (1, 3):
        exported.check(compiled([exported.images[:batch]])[0])


def test_the_onnx_form_uses_few_kinds_of_operators_and_no_batch_norm(exported: Exported) -> None:
    import onnx

    kinds = {node.op_type for node in onnx.load_from_string(exported.graph).graph.node}
    plain = {"Sub", "Div", "Conv", "Relu", "ReduceMean", "Gemm", "Add", "MaxPool", "AveragePool"}
    assert kinds <= plain | {"HardSwish", "HardSigmoid", "Mul"}


def test_torch_exports_it_with_a_batch_of_any_size(exported: Exported) -> None:
    example = (torch.from_numpy(exported.images[:2]),)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(exported.network, example, dynamic_shapes=shapes).module()
    with torch.inference_mode():
        for batch in (1, 3):
            exported.check(program(torch.from_numpy(exported.images[:batch])).numpy())


def test_torch_fx_traces_it_with_each_norm_after_its_convolution(exported: Exported) -> None:
    from torch import fx, nn

    traced = fx.symbolic_trace(exported.network)
    with torch.inference_mode():
        exported.check(traced(torch.from_numpy(exported.images)).numpy())
    calls = {
        node: traced.get_submodule(node.target) for node in traced.graph.nodes if node.op == "call_module"
    }
    norms = [node for node, layer in calls.items() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert isinstance(calls[norm.args[0]], nn.Conv2d)
        assert len(norm.args[0].users) == 1


# --- counting ------------------------------------------------------------------------------------------


@given(
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    size=st.integers(5, 12),
)
@settings(deadline=None, max_examples=40)
def test_macs_of_one_convolution_by_hand(groups: int, kernel: int, stride: int, size: int) -> None:
    layer = torch.nn.Conv2d(4, 8, kernel, stride, kernel // 2, groups=groups)
    side = -(-size // stride)
    assert count_macs(layer, (4, size, size)) == 8 * side * side * kernel * kernel * 4 // groups


def test_macs_of_a_linear_layer_used_twice_on_bytes_by_hand() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(5, 5)

        def forward(self, tokens: Any) -> Any:
            return self.linear(self.linear(tokens.float()))

    # Three tokens of five numbers, each through five rows of five weights, twice.
    assert count_macs(Twice(), (3, 5), dtype="uint8") == 2 * 3 * 5 * 5


def test_counting_changes_nothing_of_a_network_even_where_it_fails() -> None:
    network = build("tiny-student", {})
    network.features[0].norm.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [layer.training for layer in network.modules()]
    count_macs(network, (3, 16, 16))
    with pytest.raises(RuntimeError):
        count_macs(network, (4, 16, 16))
    assert [layer.training for layer in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in network.modules())


# --- what cannot be built ------------------------------------------------------------------------------


def test_a_network_that_nobody_installed_names_those_that_are() -> None:
    with pytest.raises(RecipeError, match=r"'no-such' is not installed.*tiny-student") as caught:
        build("no-such", {})
    assert "--trust-code" in caught.value.hint
    with pytest.raises(RecipeError, match="Did you mean resnet18"):
        build("resnet-18", {})


@pytest.mark.parametrize(
    ("factory", "arguments", "told"),
    [
        ("tiny-student", {"chanels": [1]}, "chanels"),
        ("tiny-teacher", {"strides": [1]}, "zip"),
        ("tiny-student", {"std": 0.0}, "std must be above zero"),
        ("pooled-teacher", {"pool": 0}, "pool must be at least 1"),
        ("mobilenetv3-small", {"width": -1.0}, "width must be above zero"),
        ("resnet8", {"stem": "large"}, "stem must be imagenet or small, not 'large'"),
        ("resnet18", {"classes": "two"}, "cannot be built as asked"),
    ],
)
def test_arguments_that_a_factory_refuses_are_a_sentence(
    factory: str, arguments: dict[str, Any], told: str
) -> None:
    before = torch.random.get_rng_state()
    with pytest.raises(RecipeError, match=rf"{factory}.* cannot be built as asked: .*{told}|{told}: "):
        build(factory, arguments)
    assert torch.equal(before, torch.random.get_rng_state())


FOREIGN = """
import torch
from pathlib import Path
Path(__file__).with_name("imported").touch()

class Nets:
    @staticmethod
    def small(*, width):
        return torch.nn.Linear(width, 2)

def pair():
    return torch.nn.Linear(1, 1), None

def stumbles():
    raise KeyError("weights")

finished = torch.nn.Linear(1, 1)
number = 3
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put modules of somebody else's on Python's path: `stranger`, and some that cannot be imported."""
    (tmp_path / "stranger.py").write_text(FOREIGN)
    (tmp_path / "lacks.py").write_text("import no_such_library")
    (tmp_path / "script.py").write_text("raise SystemExit('usage: script')")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("stranger", "lacks", "script"):
        sys.modules.pop(name, None)


def test_code_that_is_not_installed_is_not_even_imported_without_trust(foreign: Path) -> None:
    for factory in ("stranger:Nets.small", "os:system"):
        with pytest.raises(RecipeError, match="would be run") as caught:
            build(factory, {"command": f"touch {foreign / 'imported'}"})
        assert "--trust-code" in caught.value.hint
    assert not (foreign / "imported").exists()


def test_trusted_code_builds_a_network_from_the_seed(foreign: Path) -> None:
    one, same = (build("stranger:Nets.small", {"width": 3}, seed=4, trust_code=True) for _ in range(2))
    assert one.weight.shape == (2, 3)
    assert torch.equal(one.weight, same.weight)
    assert (foreign / "imported").exists()
    assert isinstance(build("tiny-student", {}, trust_code=True), TinyNet)


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        ("nobody.here:make", "Python finds no module nobody"),
        ("os.nobody:make", "Python finds no module os.nobody"),
        ("lacks:make", "importing lacks ends in ModuleNotFoundError: No module named 'no_such_library'"),
        ("script:make", "importing script ends in SystemExit: usage: script"),
        ("stranger:Nets.smal", "stranger has no Nets.smal. Did you mean small"),
        ("stranger:number", "is something of type int, which cannot be called"),
        ("stranger:finished", "is a finished Linear, not a factory"),
        ("stranger:Nets.small", "cannot be built as asked: TypeError: .*width"),
        ("stranger:stumbles", "cannot be built as asked: KeyError: 'weights'"),
        ("stranger:pair", "is of type tuple, not a torch.nn.Module"),
        ("stranger:", "is not written as package.module:attribute"),
        (":make", "is not written as package.module:attribute"),
        ("../stranger.py:pair", "is not written as package.module:attribute"),
        ("stranger:pair:pair", "is not written as package.module:attribute"),
    ],
)
def test_trusted_code_that_gives_no_network_is_a_sentence(foreign: Path, factory: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        build(factory, {}, trust_code=True)


def test_an_installed_network_whose_package_is_broken_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "broken-1.0.dist-info"
    home.mkdir()
    (home / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (home / "entry_points.txt").write_text(f"[{NETWORKS}]\ngone = no_such_package:make\nhalf = os:no_such\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("gone", "half"):
        with pytest.raises(RecipeError, match=f"'{name}' is installed, but cannot be imported: .*no_such"):
            build(name, {})
