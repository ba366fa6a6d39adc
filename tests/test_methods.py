"""Losses against values worked out by hand, where their gradients go and vanish, and what is refused."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from kdbench.distill.features import Answer, Watched
from kdbench.distill.methods import (
    METHODS,
    attention,
    checked,
    correlated_targets,
    cross_entropy,
    decoupled_targets,
    hard_targets,
    hint,
    relational,
    soft_targets,
    standardised,
    term,
)
from kdbench.distill.methods.correlation import correlation
from kdbench.distill.methods.layers import averaged
from kdbench.distill.methods.relations import apart, cosines
from kdbench.distill.nets import build
from kdbench.errors import RecipeError

torch = pytest.importorskip("torch")

LIVELY: Mapping[str, dict[str, Any]] = {"dist": {"beta": 0}, "dkd": {"beta": 0}}
"""What the methods are given so that they work with two classes."""

FAMILIES = [((4, 8, 8), (6, 5, 7)), ((4, 3, 8), (2, 6, 6)), ((5, 4, 4), (5, 4, 4))]
"""Shapes of features of student and teacher: larger and smaller, each in one direction, and alike."""


def logits(*rows: tuple[float, ...]) -> Any:
    """Give logits whose softmax at temperature 1 has these rows, up to a factor for each row."""
    return torch.tensor([[math.log(value) for value in row] for row in rows])


def leaf(*shape: int, seed: int = 0) -> Any:
    """Draw numbers that a gradient can be asked of."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def answers(classes: int, pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> tuple[Answer, Answer]:
    """Draw what a student and a teacher answer to six images, every tensor a leaf."""
    student = Answer(leaf(6, classes), tuple(leaf(6, *ours, seed=1) for ours, _ in pairs))
    teacher = Answer(leaf(6, classes, seed=2), tuple(leaf(6, *theirs, seed=3) for _, theirs in pairs))
    return student, teacher


def slope(loss: Callable[..., Any], at: Any, *others: Any, **keywords: Any) -> float:
    """Give the size of the gradient of a loss there."""
    at = at.detach().clone().requires_grad_()
    loss(at, *others, **keywords).backward()
    return float(at.grad.norm())


def test_cross_entropy_is_the_mean_of_minus_log_probability() -> None:
    # Probabilities 1/2 of class 0, and 1/4 of class 1.
    assert cross_entropy(logits((1, 1), (3, 1)), torch.tensor([0, 1])).item() == pytest.approx(
        (math.log(2) + math.log(4)) / 2
    )


def test_soft_targets_is_the_divergence_at_the_temperature_times_its_square() -> None:
    # At T = 2 the teacher says 3/4, 1/4 and the student 1/2, 1/2.
    student, teacher = 2 * logits((1, 1)), 2 * logits((3, 1))
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert soft_targets(student, teacher, temperature=2.0).item() == pytest.approx(4 * divergence)


def test_the_gradient_of_soft_targets_keeps_its_size_when_the_temperature_grows() -> None:
    sizes = [
        slope(soft_targets, torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), temperature=temperature)
        for temperature in (50.0, 100.0)
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-3)


def test_standardised_logits_have_mean_0_and_variance_1() -> None:
    # Of 1, 2, 3 the mean is 2 and the mean square deviation 2/3.
    step = math.sqrt(3 / 2)
    assert standardised(torch.tensor([[1.0, 2.0, 3.0]])).tolist()[0] == pytest.approx([-step, 0, step])


def test_soft_targets_of_standardised_logits_by_hand() -> None:
    # The student becomes (-s, 0, s) and the teacher (s, 0, -s) with s = sqrt(3/2), so that at T = s their
    # logits are (-1, 0, 1) and (1, 0, -1), and T^2 = 3/2. The logarithms differ by 2, 0 and -2.
    scale = math.sqrt(3 / 2)
    found = soft_targets(
        torch.tensor([[10.0, 20.0, 30.0]]),
        torch.tensor([[3.0, 2.0, 1.0]]),
        temperature=scale,
        standardise=True,
    )
    total = math.e + 1 + 1 / math.e
    assert found.item() == pytest.approx(1.5 * 2 * (math.e - 1 / math.e) / total, rel=1e-5)


def test_hard_targets_is_the_cross_entropy_to_the_teachers_verdict() -> None:
    student = logits((3, 1), (3, 1))
    teacher = torch.tensor([[9.0, -9.0], [-9.0, 9.0]])
    assert hard_targets(student, teacher).item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_decoupled_targets_by_hand(temperature: float) -> None:
    # Teacher 1/2, 1/4, 1/4: class 0 is the target. Student 1/4, 1/4, 1/2.
    student, teacher = temperature * logits((1, 1, 2)), temperature * logits((2, 1, 1))
    of_target = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    of_others = 0.5 * math.log(0.5 / (1 / 3)) + 0.5 * math.log(0.5 / (2 / 3))
    found = decoupled_targets(student, teacher, temperature=temperature, alpha=2.0, beta=3.0)
    assert found.item() == pytest.approx(temperature**2 * (2 * of_target + 3 * of_others), rel=1e-5)


def test_correlation_by_hand() -> None:
    # Deviations (-1, 0, 1) and (-1, 1, 0): 1 / 2. A straight line upwards: 1. A constant: 0.
    first = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    second = torch.tensor([[4.0, 6.0, 5.0], [5.0, 7.0, 9.0], [8.0, 8.0, 8.0]])
    assert correlation(first, second).tolist() == pytest.approx([0.5, 1.0, 0.0])


def test_correlated_targets_weighs_images_and_classes_apart() -> None:
    ours = ((0.5, 0.3, 0.2), (0.1, 0.3, 0.6), (0.2, 0.7, 0.1))
    theirs = ((0.6, 0.2, 0.2), (0.2, 0.2, 0.6), (0.3, 0.3, 0.4))
    images = 1 - statistics.mean(map(statistics.correlation, ours, theirs))
    classes = 1 - statistics.mean(
        map(statistics.correlation, [*zip(*ours, strict=True)], [*zip(*theirs, strict=True)])
    )
    found = correlated_targets(2 * logits(*ours), 2 * logits(*theirs), temperature=2.0, beta=3.0, gamma=5.0)
    assert found.item() == pytest.approx(4 * (3 * images + 5 * classes), rel=1e-5)


def test_hints_are_compared_after_the_projection() -> None:
    # Channel 0: 2 * (1, 2) = (2, 4) against (1, 4). Channel 1: 1 - (1, 2) = (0, -1) against (0, 1).
    student = torch.tensor([[[[1.0, 2.0]]]])
    teacher = torch.tensor([[[[1.0, 4.0]], [[0.0, 1.0]]]])
    found = hint(student, teacher, weight=torch.tensor([[2.0], [-1.0]]), bias=torch.tensor([0.0, 1.0]))
    assert found.item() == pytest.approx((1 + 0 + 0 + 4) / 4)


@pytest.mark.parametrize("flip", [False, True])
def test_hints_of_a_map_against_a_vector_compare_the_maps_average(flip: bool) -> None:
    # The average of 1, 2, 3, 6 is 3; against 5 that is 2, and its square 4.
    pair = [torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]), torch.tensor([[5.0]])]
    student, teacher = reversed(pair) if flip else pair
    assert hint(student, teacher, weight=torch.ones(1, 1), bias=torch.zeros(1)).item() == pytest.approx(4.0)


def test_attention_compares_normalised_maps_of_mean_squares() -> None:
    # Mean squares over two channels are (3, 4) and (4, 3), of length 5; (0.2)^2 at both positions.
    student = torch.tensor([[[[6.0, 0.0]], [[0.0, 8.0]]]]).sqrt()
    teacher = -torch.tensor([[[[4.0, 3.0]]]]).sqrt()
    assert attention(student, teacher).item() == pytest.approx(0.04)


def test_attention_averages_the_larger_map() -> None:
    # Squares 1, 5 | 4, 4 average to the map (3, 4); the teacher's is (4, 3).
    student = torch.tensor([[[[1.0, 5.0, 4.0, 4.0]]]]).sqrt()
    assert attention(student, torch.tensor([[[[4.0, 3.0]]]]).sqrt()).item() == pytest.approx(0.04)


RIGHT = [[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]
EQUILATERAL = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, math.sqrt(0.75), 0.0]]


def test_relational_distances_by_hand() -> None:
    # 3, 4, 5 in units of their mean are 0.75, 1, 1.25; all are 1 in the other.
    found = relational(torch.tensor(RIGHT), torch.tensor(EQUILATERAL), distance=2.0, angle=0.0)
    assert found.item() == pytest.approx(2 * (0.25**2 / 2 + 0 + 0.25**2 / 2) / 3, rel=1e-5)


def test_relational_angles_by_hand() -> None:
    # Cosines 0, 3/5, 4/5 against 1/2 three times.
    found = relational(torch.tensor(RIGHT), torch.tensor(EQUILATERAL), distance=0.0, angle=2.0)
    assert found.item() == pytest.approx(2 * (0.5**2 + 0.1**2 + 0.3**2) / 2 / 3, rel=1e-5)


def test_relational_counts_large_gaps_linearly() -> None:
    # On a line the cosine is -1 at the middle point, here another one: gaps 0, 2, 2, each counted as 2 - 1/2.
    student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [2.0], [1.0]])
    assert relational(student, teacher, distance=0.0, angle=1.0).item() == pytest.approx((0 + 1.5 + 1.5) / 3)


def test_relational_averages_maps_over_their_positions() -> None:
    maps = leaf(4, 3, 5, 2)
    assert relational(maps, maps.mean((2, 3)), distance=25.0, angle=50.0).item() == pytest.approx(
        0.0, abs=1e-6
    )


@pytest.mark.parametrize("name", ["kd", "dist", "dkd", "attention", "relational"])
def test_a_student_that_answers_as_its_teacher_has_no_loss(name: str) -> None:
    _, teacher = answers(5, FAMILIES)
    module = term(name, {}, teacher.shapes, teacher.shapes)
    assert module(teacher, teacher).item() == pytest.approx(0.0, abs=1e-4)


def test_a_hint_that_can_be_projected_onto_the_teachers_has_no_loss() -> None:
    features = leaf(2, 3, 4, 4)
    assert hint(features, features, weight=torch.eye(3), bias=torch.zeros(3)).item() == 0.0


def test_attention_does_not_ask_how_strong_activations_are() -> None:
    student, teacher = leaf(3, 4, 5, 5), leaf(3, 7, 5, 5, seed=1)
    base = attention(student, teacher).item()
    for size in (1e-3, 1e3):
        assert attention(size * student, teacher).item() == pytest.approx(base, rel=1e-4)
        assert attention(student, -size * teacher).item() == pytest.approx(base, rel=1e-4)


def test_relations_stay_when_all_images_are_turned_moved_and_scaled() -> None:
    student, teacher = leaf(6, 4), leaf(6, 9, seed=1)
    turn, _ = torch.linalg.qr(leaf(4, 4, seed=2))
    base = relational(student, teacher, distance=25.0, angle=50.0).item()
    moved = 7.0 * student @ turn + 3.0
    assert relational(moved, teacher, distance=25.0, angle=50.0).item() == pytest.approx(base, rel=1e-4)


def test_correlation_does_not_ask_for_scale_or_place() -> None:
    first, second = leaf(4, 9), leaf(4, 9, seed=1)
    base = correlation(first, second).tolist()
    assert correlation(30.0 * first - 5.0, 0.1 * second + 2.0).tolist() == pytest.approx(base, rel=1e-4)


def test_correlated_targets_hardly_asks_for_the_scale_of_logits_at_a_high_temperature() -> None:
    # Softmax is then nearly linear in the logits, and correlation blind to their scale; KD is not.
    teacher = leaf(8, 6)
    keywords = {"temperature": 100.0}
    assert correlated_targets(3 * teacher, teacher, beta=1.0, gamma=1.0, **keywords).item() < 1e-3 * 100**2
    assert soft_targets(3 * teacher, teacher, **keywords).item() > 0.5


def test_standardised_targets_do_not_ask_for_the_scale_of_logits() -> None:
    teacher = leaf(8, 6)
    loss = soft_targets(4.0 * teacher - 1.0, teacher, temperature=2.0, standardise=True)
    assert loss.item() == pytest.approx(0.0, abs=1e-5)


numbers = st.floats(-80, 80, width=32)
tables = st.tuples(st.integers(1, 4), st.integers(2, 5)).flatmap(
    lambda size: st.tuples(
        *[st.lists(st.lists(numbers, min_size=size[1], max_size=size[1]), min_size=size[0], max_size=size[0])]
        * 2
    )
)
temperatures = st.sampled_from([0.5, 1.0, 4.0, 100.0])


@settings(max_examples=60, deadline=None)
@given(tables, temperatures)
def test_losses_of_logits_are_finite_and_not_negative(table: Any, temperature: float) -> None:
    student, teacher = (torch.tensor(rows) for rows in table)
    # Rounding may leave a divergence of 1e-7 times its largest summand, which grows as the logits / T do.
    rounding = 1e-5 * temperature**2 * (1 + 160 / temperature)
    for loss in (
        soft_targets(student, teacher, temperature=temperature),
        soft_targets(student, teacher, temperature=temperature, standardise=True),
        hard_targets(student, teacher),
        decoupled_targets(student, teacher, temperature=temperature, alpha=1.0, beta=8.0),
        correlated_targets(student, teacher, temperature=temperature, beta=1.0, gamma=1.0),
    ):
        assert math.isfinite(loss.item())
        assert loss.item() >= -rounding
    correlated = correlated_targets(student, teacher, temperature=temperature, beta=1.0, gamma=1.0)
    assert correlated.item() <= 4 * temperature**2 * (1 + 1e-5)


@settings(max_examples=60, deadline=None)
@given(tables)
def test_kd_is_the_sum_of_the_decoupled_parts_with_the_rest_as_weight(table: Any) -> None:
    for ours, theirs in zip(*table, strict=True):
        student, teacher = torch.tensor([ours]).double() / 20, torch.tensor([theirs]).double() / 20
        target, others = (
            decoupled_targets(student, teacher, temperature=1.0, alpha=alpha, beta=1.0 - alpha).item()
            for alpha in (1.0, 0.0)
        )
        rest = 1 - teacher.softmax(1).max().item()
        whole = soft_targets(student, teacher, temperature=1.0).item()
        assert whole == pytest.approx(target + rest * others, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 9)] * 4)
def test_averaging_takes_the_windows_of_adaptive_pooling(
    height: int, width: int, rows: int, columns: int
) -> None:
    size = (min(height, rows), min(width, columns))
    features = leaf(2, 3, height, width)
    expected = torch.nn.functional.adaptive_avg_pool2d(features, size)
    assert averaged(features, size).flatten().tolist() == pytest.approx(expected.flatten().tolist(), abs=1e-5)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("classes", [2, 10])
def test_gradients_reach_the_student_and_never_the_teacher(name: str, classes: int) -> None:
    student, teacher = answers(classes, FAMILIES)
    settings = checked(name, LIVELY.get(name, {}) if classes == 2 else {}, classes)
    module = term(name, settings, student.shapes, teacher.shapes)
    loss = module(student, teacher)
    assert loss.shape == ()
    loss.backward()
    if METHODS[name].needs_features:
        compared = student.features
    else:
        compared = (student.features[-1] if METHODS[name].takes_features else student.logits,)
    for tensor in (student.logits, *student.features):
        reached = any(tensor is one for one in compared)
        assert (tensor.grad is not None and float(tensor.grad.norm()) > 1e-6) == reached
    assert all(tensor.grad is None for tensor in (teacher.logits, *teacher.features))


@pytest.mark.parametrize("name", METHODS)
def test_only_hints_have_something_to_learn(name: str) -> None:
    shapes = [((4, 8, 8), (6, 5, 7)), ((3,), (2, 4, 4))]
    student, teacher = answers(3, shapes if name == "hint" else shapes[:1])
    torch.manual_seed(1)
    module = term(name, {}, student.shapes, teacher.shapes)
    module(student, teacher).backward()
    found = [tuple(parameter.shape) for parameter in module.parameters()]
    assert found == ([(6, 4), (6,), (2, 3), (2,)] if name == "hint" else [])
    assert all(parameter.grad is not None for parameter in module.parameters())
    torch.manual_seed(1)
    again = term(name, {}, student.shapes, teacher.shapes)
    assert again(student, teacher).item() == module(student, teacher).item()


ODD_LOGITS = {
    "equal": torch.zeros(6, 4),
    "saturated": 80.0 * torch.eye(6, 4) - 80.0 * (1 - torch.eye(6, 4)),
    "identical": torch.arange(4.0).expand(6, 4),
    "wrong and sure": 80.0 - 160.0 * torch.eye(6, 4),
    "one image": torch.tensor([[1.0, 0.0, -1.0, 3.0]]),
    "two images": torch.tensor([[1.0, 0.0, -1.0, 3.0], [1.0, 0.0, -1.0, 3.0]]),
    "ordinary": torch.linspace(-2, 2, 24).reshape(6, 4).sin(),
}


@pytest.mark.parametrize("theirs", ODD_LOGITS)
@pytest.mark.parametrize("ours", ODD_LOGITS)
@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name].needs_features])
def test_gradients_of_odd_logits_are_finite_and_not_vast(name: str, ours: str, theirs: str) -> None:
    count = min(len(ODD_LOGITS[ours]), len(ODD_LOGITS[theirs]))
    student = ODD_LOGITS[ours][:count].clone().requires_grad_()
    for changes in ({}, {"standardise": True} if name == "kd" else {}):
        loss = term(name, changes, (), ())(Answer(student), Answer(ODD_LOGITS[theirs][:count]))
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss)
        assert float(gradient.norm()) < 2e3


ODD_MAPS = {
    "zero": torch.zeros(5, 3, 4, 4),
    "constant": torch.full((5, 3, 4, 4), 2.0),
    "tiny": torch.full((5, 3, 4, 4), 1e-20),
    "large": torch.linspace(-1e4, 1e4, 240).reshape(5, 3, 4, 4),
    "identical": torch.linspace(-1, 1, 48).reshape(3, 4, 4).expand(5, 3, 4, 4),
    "ordinary": torch.linspace(-50, 50, 240).reshape(5, 3, 4, 4).sin(),
}


@pytest.mark.parametrize("theirs", ODD_MAPS)
@pytest.mark.parametrize("ours", ODD_MAPS)
@pytest.mark.parametrize("name", ["hint", "attention", "relational"])
def test_gradients_of_odd_features_are_finite_and_not_vast(name: str, ours: str, theirs: str) -> None:
    student = ODD_MAPS[ours].clone().requires_grad_()
    module = term(name, {}, [(3, 4, 4)], [(3, 4, 4)])
    loss = module(Answer(torch.zeros(5, 2), (student,)), Answer(torch.zeros(5, 2), (ODD_MAPS[theirs],)))
    loss.backward()
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert float(student.grad.norm()) < 1e4


def test_two_images_that_coincide_do_not_silence_the_others() -> None:
    rows = torch.tensor([*RIGHT, RIGHT[1]], requires_grad=True)
    relational(rows, leaf(4, 3).detach(), distance=25.0, angle=50.0).backward()
    assert rows.grad is not None
    assert bool(torch.isfinite(rows.grad).all())
    assert bool((rows.grad.norm(dim=1) > 1e-3).all())


def test_images_that_all_coincide_have_no_relations() -> None:
    differences = apart(torch.ones(3, 2))
    assert differences.tolist() == torch.zeros(3, 3, 2).tolist()
    assert cosines(differences).tolist() == torch.zeros(3, 3, 3).tolist()


def test_differences_are_in_units_of_their_mean_length() -> None:
    assert apart(torch.tensor(RIGHT))[0].tolist() == [[0, 0], [-0.75, 0], [0, -1]]


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Let torch refuse what it could not repeat, as training does."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("name", METHODS)
def test_a_student_of_another_family_learns_from_every_method(name: str) -> None:
    student, teacher = build("tiny-student", {}, seed=1), build("tiny-teacher", {}, seed=2)
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with (
        Watched(student, ["features.2", "features.6"]) as ours,
        Watched(teacher, ["features.1", "features.3"]) as theirs,
    ):
        with torch.no_grad():
            wanted = theirs(images)
        module = term(name, LIVELY.get(name, {}), ours(images).shapes, wanted.shapes)
        optimiser = torch.optim.Adam([*student.parameters(), *module.parameters()], 3e-3)
        losses = []
        for _ in range(12):
            optimiser.zero_grad()
            loss = module(ours(images), wanted)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", METHODS)
def test_a_loss_keeps_its_precision_where_networks_run_in_less(name: str) -> None:
    student, teacher = answers(4, FAMILIES)
    module = term(name, {}, student.shapes, teacher.shapes)
    expected = module(student, teacher).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert module(student, teacher).item() == expected


DEAD = {
    "dkd": (decoupled_targets, {"temperature": 4.0, "alpha": 0.0, "beta": 8.0}),
    "dist": (correlated_targets, {"temperature": 4.0, "beta": 1.0, "gamma": 0.0}),
    "kd": (soft_targets, {"temperature": 4.0, "standardise": True}),
}


@pytest.mark.parametrize("name", DEAD)
def test_what_is_refused_with_two_classes_has_no_gradient_there(name: str) -> None:
    loss, keywords = DEAD[name]
    # Logits that are not nearly equal, where floors would be felt.
    student, teacher = (numbers + numbers.sign() for numbers in (leaf(64, 3), leaf(64, 3, seed=1)))
    student, teacher = (
        torch.cat([numbers[:, :1], -numbers[:, :1], numbers[:, 1:]], 1) for numbers in (student, teacher)
    )
    two, three = (slope(loss, student[:, :count], teacher[:, :count], **keywords) for count in (2, 3))
    assert two < 1e-4 * three
    assert three > 1e-2


def test_what_is_left_of_dkd_with_two_classes_is_kd() -> None:
    student, teacher = leaf(9, 2), leaf(9, 2, seed=1)
    whole = soft_targets(student, teacher, temperature=4.0).item()
    left = decoupled_targets(student, teacher, temperature=4.0, alpha=1.0, beta=0.0).item()
    assert left == pytest.approx(whole, rel=1e-5)


def test_what_is_left_of_dist_with_two_classes_has_a_gradient() -> None:
    teacher = leaf(64, 2, seed=1)
    assert slope(correlated_targets, leaf(64, 2), teacher, temperature=4.0, beta=0.0, gamma=1.0) > 1e-2


def test_two_standardised_logits_are_plus_and_minus_one() -> None:
    assert standardised(torch.tensor([[0.3, -5.0]])).tolist()[0] == pytest.approx([1.0, -1.0], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "words", "mend"),
    [
        ("dkd", {}, "beta = 8 does nothing with two classes.*one other", "beta = 0"),
        ("dkd", {"beta": 0.5}, "beta = 0.5 does nothing with two classes", "method kd"),
        ("dist", {}, r"beta = 1 does nothing with two classes.*always \+1 or -1", "beta = 0"),
        ("kd", {"standardise": True}, r"standardise = true does nothing.*\+1 and -1", "standardise = false"),
    ],
)
def test_what_is_dead_with_two_classes_is_refused_with_the_reason(
    name: str, settings: dict[str, Any], words: str, mend: str
) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        checked(name, settings, 2)
    assert mend in caught.value.hint
    assert checked(name, settings, 3)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_had_with_two_classes(name: str) -> None:
    assert checked(name, LIVELY.get(name, {}), 2).keys() == METHODS[name].defaults.keys()


def test_the_registry_has_the_methods_with_their_sources() -> None:
    assert list(METHODS) == ["kd", "hard", "hint", "attention", "relational", "dist", "dkd"]
    assert all("arXiv" in method.source and method.name == name for name, method in METHODS.items())
    with pytest.raises(TypeError):
        METHODS["kd"] = METHODS["dkd"]  # type: ignore[index]


@pytest.mark.parametrize("name", METHODS)
def test_defaults_are_settings_that_pass(name: str) -> None:
    assert checked(name, {}, 10) == dict(METHODS[name].defaults)
    assert checked(name, METHODS[name].defaults, 10) == dict(METHODS[name].defaults)


def test_what_is_given_replaces_the_default_as_its_type() -> None:
    assert checked("dkd", {"beta": 2}, 10) == {"temperature": 4.0, "alpha": 1.0, "beta": 2.0}
    assert type(checked("dkd", {"beta": 2}, 10)["beta"]) is float


@pytest.mark.parametrize(
    ("name", "settings", "words", "mend"),
    [
        ("dkt", {}, "no distillation method 'dkt'", "Did you mean 'dkd'"),
        ("KD", {}, "no distillation method 'KD'", "Did you mean 'kd'"),
        ("crd", {}, "no distillation method 'crd'", "kd, hard, hint, attention, relational, dist, dkd"),
        ("dist", {"gama": 1.0}, "no setting 'gama'; did you mean gamma", "gamma (1)"),
        ("hard", {"temperature": 2.0}, "hard has no setting 'temperature'", "no settings"),
        (
            "kd",
            {"temperature": 0},
            "temperature must be a number from 0.01 to 1000, not 0",
            "temperature (4)",
        ),
        ("kd", {"temperature": "4"}, "must be a number from .*, not '4'", ""),
        ("kd", {"temperature": True}, "must be a number from .*, not true", ""),
        ("kd", {"temperature": math.nan}, "must be a number from .*, not nan", ""),
        ("kd", {"temperature": math.inf}, "must be a number from .*, not inf", ""),
        ("kd", {"temperature": (1, 2)}, "must be a number from", ""),
        ("kd", {"standardise": 1}, "standardise must be true or false, not 1", "standardise (false)"),
        ("dkd", {"alpha": -1}, "alpha must be a number from 0 to 1000, not -1", ""),
        ("dist", {"beta": 0, "gamma": 0}, "beta and gamma are 0, which leaves nothing", "gamma = 1"),
        ("relational", {"angle": 0, "distance": 0}, "distance and angle are 0", "distance = 25, angle = 50"),
    ],
)
def test_what_a_method_cannot_be_given_is_a_sentence(
    name: str, settings: dict[str, Any], words: str, mend: str
) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        checked(name, settings, 10)
    assert mend in caught.value.hint


def test_all_wrong_settings_are_told_at_once() -> None:
    with pytest.raises(RecipeError, match=r"no setting 'betta'; did you mean beta\? dkd: alpha must be"):
        checked("dkd", {"betta": 1, "alpha": -1}, 10)


def test_one_class_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least 2 were expected"):
        checked("kd", {}, 1)


@pytest.mark.parametrize(
    ("name", "student", "teacher", "words"),
    [
        ("hint", [], [], "hint compares features, and no layer is named"),
        ("attention", [], [], "attention compares features, and no layer is named"),
        ("hint", [(3, 4, 4)], [], "1 layers of the student stand against 0 of the teacher"),
        ("relational", [(3,)], [(3,), (4,)], "1 layers of the student stand against 2"),
        ("hint", [(3, 4)], [(3, 4, 4)], "layer 1 of the student answers 3x4 to an image"),
        ("relational", [(3,)], [()], "layer 1 of the teacher answers a scalar"),
        (
            "attention",
            [(3, 4, 4), (8,)],
            [(3, 4, 4), (8, 2, 2)],
            "layer 2 of the student answers 8 .* no map",
        ),
        ("attention", [(3, 4, 1)], [(3, 1, 4)], "no map of more than one point in common"),
    ],
)
def test_features_that_cannot_be_compared_are_a_sentence(
    name: str, student: list[tuple[int, ...]], teacher: list[tuple[int, ...]], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        term(name, {}, student, teacher)


def test_a_term_takes_what_lacks_from_the_defaults_and_refuses_what_it_does_not_know() -> None:
    student, teacher = answers(5, [])
    expected = soft_targets(student.logits, teacher.logits, temperature=4.0).item()
    assert term("kd", {}, (), ())(student, teacher).item() == expected
    with pytest.raises(RecipeError, match="did you mean temperature"):
        term("kd", {"temprature": 2.0}, (), ())


def test_relations_are_those_of_the_logits_where_no_features_are_compared() -> None:
    student, teacher = answers(5, [])
    found = term("relational", {}, (), ())(student, teacher).item()
    assert found == relational(student.logits, teacher.logits, distance=25.0, angle=50.0).item()


def test_pairs_of_layers_add_up() -> None:
    student, teacher = answers(5, FAMILIES)
    found = term("attention", {}, student.shapes, teacher.shapes)(student, teacher).item()
    parts = [attention(*pair).item() for pair in zip(student.features, teacher.features, strict=True)]
    assert found == pytest.approx(sum(parts))


def test_settings_are_checked_without_importing_torch() -> None:
    lines = (
        "import sys; from kdbench.distill.methods import checked",
        "checked('kd', {}, 2); print('torch' in sys.modules)",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
