"""What named modules answer while a network runs: which paths are taken, and which answers are refused."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from kdbench.distill.features import Answer, Watched
from kdbench.distill.nets import build
from kdbench.errors import RecipeError

torch = pytest.importorskip("torch")
nn = torch.nn


class Net(nn.Module):
    """Every way in which a module can be used: once, twice, never, in place, with more than one answer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.rectify = nn.ReLU(inplace=True)
        self.shared = nn.Tanh()
        self.spare = nn.Linear(4, 4)
        self.attend = nn.MultiheadAttention(4, 1, batch_first=True)
        self.largest = nn.AdaptiveMaxPool2d(2, return_indices=True)
        self.flat = nn.Flatten(2)
        self.whole = nn.Flatten(0)
        self.head = nn.Linear(4, 2)

    def forward(self, images: Any) -> Any:
        x = self.rectify(self.norm(self.stem(images)))
        x = self.shared(self.shared(x))
        self.largest(x)
        self.whole(x)
        rows = self.flat(x).transpose(1, 2)
        mixed, _ = self.attend(rows, rows, rows)
        return self.head(mixed.mean(1))


class Wrapper(nn.Module):
    """Call another network, as DistributedDataParallel does."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Any) -> Any:
        return self.module(images)


IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def hooks(network: Any) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def test_features_are_what_the_modules_answer_in_the_order_asked_for() -> None:
    network = build("tiny-teacher", {}).eval()
    with Watched(network, ["features.3", "features.0", "head", "features.3"]) as watched:
        answer = watched(IMAGES)
    first = network.features[0]((IMAGES - 0.5) / 0.25)
    assert torch.equal(answer.features[1], first)
    assert torch.equal(answer.features[0], network.features((IMAGES - 0.5) / 0.25))
    assert torch.equal(answer.features[2], answer.logits)
    assert torch.equal(answer.logits, network(IMAGES))
    assert torch.equal(answer.features[3], answer.features[0])
    assert answer.shapes == ((192, 1, 1), (32, 4, 4), (2,), (192, 1, 1))


def test_no_path_gives_the_logits_alone() -> None:
    network = build("tiny-student", {}).eval()
    answer = Watched(network, [])(IMAGES)
    assert answer.features == ()
    assert torch.equal(answer.logits, network(IMAGES))


@pytest.mark.parametrize("training", [True, False])
def test_gradients_flow_through_logits_and_features_in_either_mode(training: bool) -> None:
    network = build("tiny-student", {}).train(training)
    watched = Watched(network, ["features.1"])
    answer = watched(IMAGES)
    assert network.training == training
    (answer.features[0].square().mean() + answer.logits.square().mean()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_features_have_none(mode: Callable[[], Any]) -> None:
    network = build("tiny-student", {}).eval()
    expected = Watched(network, ["features.1"])(IMAGES)
    watched = Watched(network, ["features.1"])
    with mode():
        answer = watched(IMAGES)
    assert not answer.features[0].requires_grad
    assert torch.equal(answer.features[0], expected.features[0])


def test_a_module_may_be_called_again_in_the_next_call_and_outside_of_any() -> None:
    network = build("tiny-student", {}).eval()
    watched = Watched(network, ["features.0"])
    first, second = watched(IMAGES), watched(IMAGES[:2])
    network(IMAGES)
    third = watched(IMAGES)
    assert len(second.features[0]) == 2
    assert torch.equal(first.features[0], third.features[0])


def test_activations_that_are_computed_again_in_the_backward_pass_do_not_count() -> None:
    class Thrifty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            return self.head(torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=False))

    network = Thrifty()
    watched = Watched(network, ["body"])
    for _ in range(2):
        answer = watched(torch.rand(5, 4))
        (answer.logits.sum() + answer.features[0].sum()).backward()
    assert answer.shapes == ((3,),)


def test_a_wrapped_network_is_called_as_the_wrapper_and_looked_up_inside() -> None:
    inner = build("tiny-student", {}).eval()
    calls = []
    outer = Wrapper(inner)
    outer.register_forward_hook(lambda *_: calls.append(1))
    inside = Watched(outer, ["features.2"], inside=inner)(IMAGES)
    assert calls == [1]
    assert torch.equal(inside.features[0], Watched(outer, ["module.features.2"])(IMAGES).features[0])


def test_an_answer_is_cut_by_images() -> None:
    answer = Answer(torch.arange(10.0).reshape(5, 2), (torch.zeros(5, 3, 4, 4), torch.zeros(5, 7)))
    part = answer[:2]
    assert part.logits.tolist() == [[0, 1], [2, 3]]
    assert [len(features) for features in part.features] == [2, 2]
    assert part.shapes == answer.shapes


def test_half_precision_is_answered_as_float32() -> None:
    network = build("tiny-student", {}).eval()
    watched = Watched(network, ["features.1"])
    with torch.autocast("cpu", torch.bfloat16):
        answer = watched(IMAGES)
    assert answer.logits.dtype == answer.features[0].dtype == torch.float32
    assert answer.features[0].requires_grad


def test_closing_takes_the_hooks_away_and_ends_the_calls() -> None:
    network = build("tiny-student", {})
    with Watched(network, ["features.0", "head"]) as watched:
        assert hooks(network) == 2
    assert hooks(network) == 0
    watched.close()
    with pytest.raises(ValueError, match="closed"):
        watched(IMAGES)


def test_a_watched_network_that_nobody_keeps_leaves_no_hook() -> None:
    network = build("tiny-student", {})
    watched = Watched(network, ["features.0"])
    features = weakref.ref(watched(IMAGES).features[0])
    gc.collect()
    assert features() is None
    del watched
    gc.collect()
    assert hooks(network) == 0


def test_a_fault_of_the_network_is_its_own_and_leaves_nothing_behind() -> None:
    network = build("tiny-student", {}).eval()
    watched = Watched(network, ["features.0"])
    with pytest.raises(RuntimeError, match="channels"):
        watched(torch.rand(5, 4, 8, 8))
    assert watched(IMAGES).shapes == ((12, 8, 8),)


@pytest.mark.parametrize(
    ("path", "mend"),
    [
        ("features.9", "Did you mean 'features."),
        ("haed", "Did you mean 'head'?"),
        ("", "It has: features, "),
        ("layer4.1.conv2.weight.grad", "It has: features, "),
    ],
)
def test_a_path_that_leads_nowhere_is_a_sentence_and_leaves_no_hook(path: str, mend: str) -> None:
    network = build("tiny-student", {})
    with pytest.raises(RecipeError, match="has no module") as caught:
        Watched(network, ["features.0", path])
    assert mend in caught.value.hint
    assert hooks(network) == 0


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("spare", "'spare' is not called when"),
        ("shared", "'shared' is called 2 times when"),
        ("attend", "'attend' answers a tuple, not one tensor"),
        ("largest", "'largest' answers a tuple, not one tensor"),
        ("flat", r"'flat' answers a tensor of shape \(5, 4, 64\)"),
        ("whole", r"'whole' answers a tensor of shape \(1280,\)"),
        ("norm", "'norm' answers is overwritten by a later one"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_an_answer_that_cannot_be_used_is_a_sentence(path: str, words: str, training: bool) -> None:
    watched = Watched(Net().train(training), ["stem", path])
    with pytest.raises(RecipeError, match=words):
        watched(IMAGES)


def test_a_module_that_itself_works_in_place_can_be_watched() -> None:
    network = Net().eval()
    (found,) = Watched(network, ["rectify"])(IMAGES).features
    assert torch.equal(found, network.norm(network.stem(IMAGES)).relu())


def test_what_is_overwritten_where_nothing_counts_writes_is_kept_as_it_was() -> None:
    network = Net().eval()
    watched = Watched(network, ["norm"])
    with torch.inference_mode():
        (found,) = watched(IMAGES).features
        assert torch.equal(found, network.norm(network.stem(IMAGES)))
    assert float(found.min()) < 0


class Odd(nn.Module):
    """Answer what it was given."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, images: Any) -> Any:
        return self.output


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ((torch.zeros(5, 2), torch.zeros(5, 2)), "answers a tuple, not one tensor of logits"),
        ({"logits": torch.zeros(5, 2)}, "answers a dict, not one tensor of logits"),
        (torch.zeros(5), r"of shape \(5,\) to 5 images; logits \(5, classes\)"),
        (torch.zeros(4, 2), r"of shape \(4, 2\) to 5 images"),
    ],
)
def test_a_network_that_does_not_answer_logits_is_a_sentence(output: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Watched(Odd(output), [])(IMAGES)


def test_whole_numbers_are_no_features() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = Odd(torch.zeros(5, 2, dtype=torch.int64))

        def forward(self, images: Any) -> Any:
            return self.count(images).float()

    with pytest.raises(RecipeError, match=r"torch.int64 to 5 images; numbers"):
        Watched(Counting(), ["count"])(IMAGES)
