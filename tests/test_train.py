"""Training: batches that any number of processes draw alike, and stages that go on where they were."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from kdbench.distill import engine, train
from kdbench.distill.batches import Batches, augment
from kdbench.distill.checkpoint import Store
from kdbench.distill.engine import start
from kdbench.distill.nets import build
from kdbench.distill.recipe import parse_recipe, read_recipe
from kdbench.distill.splits import Split
from kdbench.distill.tables import Distillation, Term, Training
from kdbench.distill.train import (
    Trainer,
    Update,
    deterministic,
    fit_labels,
    fit_teacher,
    predict,
    settle_norms,
)
from kdbench.errors import RecipeError, UsageError
from tests.brief import brief, quiet

torch = pytest.importorskip("torch")


def split(count: int = 40, size: int = 16) -> Split:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (count, 3, size, size)).astype(np.uint8)
    return Split(images, np.arange(count) % 2, tuple(bytes([number]) for number in range(count)))


def trainer(folder: Path | None = None, progress: train.Progress = quiet) -> Trainer:
    recipe = parse_recipe(brief(), "brief")
    return Trainer(recipe=recipe, engine=start(recipe.engine), store=Store(folder), progress=progress)


def test_augmentation_moves_each_image_by_what_is_allowed() -> None:
    plan = msgspec.structs.replace(read_recipe().augmentation, brightness=0.0, contrast=0.0)
    images = torch.zeros(64, 3, 5, 5)
    images[:, :, 2, 2] = 1.0
    rng = np.random.default_rng(0)
    moved = augment(images, plan, rng.integers(3, size=(2, 64, 1, 1)), np.zeros((2, 64, 1, 1, 1)))
    assert (moved.sum((1, 2, 3)) == 3.0).all()
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}


def test_two_processes_draw_together_what_one_draws_alone() -> None:
    plan, images = read_recipe().augmentation, split()
    whole = Batches(images, 8, plan, (1,))
    parts = [Batches(images, 8, plan, (1,), (rank, 2)) for rank in (0, 1)]
    for _ in range(3):
        wanted, labels = whole.draw()
        for rank, part in enumerate(parts):
            found, own = part.draw()
            assert torch.equal(found, wanted[rank::2])
            assert torch.equal(own, labels[rank::2])


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    class Three:
        rank, processes, device = 0, 3, torch.device("cpu")

    uneven = Trainer(
        recipe=parse_recipe(brief(), "brief"),
        engine=Three(),  # type: ignore[arg-type]
        store=Store(None),
        progress=quiet,
    )
    with pytest.raises(RecipeError, match="64 in the stage pretrain cannot be shared evenly by 3"):
        fit_labels(uneven, "pretrain", build("tiny-student", {}), split(), uneven.recipe.pretrain)


class Stopped(Exception):
    """Stands for an interruption."""


def stopping(stage: str, at: int) -> train.Progress:
    def tell(update: Update) -> None:
        if (update.stage, update.step) == (stage, at):
            raise Stopped

    return tell


@pytest.mark.parametrize("method", ["kd", "hint"])
def test_a_stage_that_was_interrupted_ends_as_if_it_had_not_been(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "KEPT_S", 0.0)
    plan = Distillation(
        steps=6, batch=8, labelled_batch=4, learning_rate=4e-3, label_weight=0.5, terms=(Term(method=method),)
    )
    teacher = build("tiny-teacher", {}, seed=1)

    def distilled(who: Trainer) -> dict[str, torch.Tensor]:
        student = build("tiny-student", {}, seed=2)
        fit_teacher(who, "distill", student, teacher, split(), split(), plan=plan)
        return student.state_dict()

    with deterministic(1):
        whole = distilled(trainer())
        with pytest.raises(Stopped):
            distilled(trainer(tmp_path, stopping("distill", 4)))
        seen: list[int] = []
        resumed = distilled(trainer(tmp_path, lambda update: seen.append(update.step)))
        assert seen == [4, 5, 6]
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)
        again: list[Update] = []
        kept = distilled(trainer(tmp_path, again.append))
    assert [(update.step, update.loss) for update in again] == [(6, None)]
    assert all(torch.equal(whole[name], kept[name]) for name in whole)
    assert Store(tmp_path).stages() == ("distill",)


def test_a_kept_stage_that_is_torn_is_as_good_as_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.finish("pretrain", {"weight": torch.ones(3)})
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-4])
    assert store.finished("pretrain") is None
    store.discard()
    assert not tmp_path.exists()


@pytest.mark.parametrize("change", ["weights", "facts", "names"])
def test_a_kept_stage_that_was_changed_is_as_good_as_none(change: str, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    store = Store(tmp_path)
    store.keep("distill", {"weight": torch.ones(3)}, {"step": 3})
    assert store.halfway("distill") is not None
    (path,) = tmp_path.iterdir()
    with safe_open(path, "pt") as file:
        told = dict(file.metadata())
    if change == "facts":
        told["facts"] = '{"step": 9}'
    name = "other" if change == "names" else "weight"
    save_file({name: torch.full((3,), 2.0 if change == "weights" else 1.0)}, path, told)
    assert store.halfway("distill") is None
    store.finish("pretrain", {"weight": torch.ones(3)})
    (tmp_path / "finetune.safetensors").write_bytes(b"torn")
    assert store.stages() == ("pretrain",)


def test_weights_with_two_names_are_kept_under_both(tmp_path: Path) -> None:
    weight = torch.ones(3)
    Store(tmp_path).finish("pretrain", {"one": weight, "other": weight})
    found = Store(tmp_path).finished("pretrain")
    assert found is not None
    assert torch.equal(found["one"], found["other"])


def test_a_stage_of_a_network_whose_code_has_changed_is_trained_anew(tmp_path: Path) -> None:
    training = Training(steps=2, batch=8, learning_rate=1e-3)
    fit_labels(trainer(tmp_path), "pretrain", build("tiny-student", {}), split(), training)
    seen: list[Update] = []
    fit_labels(trainer(tmp_path, seen.append), "pretrain", build("tiny-teacher", {}), split(), training)
    assert [update.step for update in seen] == [1, 2]
    assert all(update.loss is not None for update in seen)


def test_the_first_loss_that_is_no_number_ends_the_stage() -> None:
    network = build("tiny-student", {})
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    training = Training(steps=5, batch=8, learning_rate=1e-3)
    with pytest.raises(RecipeError, match=r"stage finetune is nan at step 1 of 5.*learning_rate"):
        fit_labels(trainer(), "finetune", network, split(), training)


def test_a_batch_of_one_image_to_each_process_is_refused() -> None:
    class Two:
        rank, processes, device = 0, 2, torch.device("cpu")

    lonely = msgspec.structs.replace(trainer().recipe.pretrain, batch=2)
    who = Trainer(
        recipe=parse_recipe(brief(), "brief"),
        engine=Two(),  # type: ignore[arg-type]
        store=Store(None),
        progress=quiet,
    )
    with pytest.raises(RecipeError, match=r"one image to each process.*at least 4"):
        fit_labels(who, "pretrain", build("tiny-student", {}), split(), lonely)


def test_half_precision_without_a_gpu_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"fp16.*bf16"):
        start(msgspec.structs.replace(read_recipe().engine, precision="fp16"))


@pytest.mark.parametrize("told", ["2", "0", "x", ""])
def test_a_count_of_processes_without_torchrun_is_a_sentence(
    told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", told)
    with pytest.raises(UsageError, match="without all that torchrun sets"):
        start(read_recipe().engine)


def test_a_rank_that_is_no_number_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (engine.rank(), engine.rank("LOCAL_RANK")) == (0, 1)


def test_the_norms_take_the_statistics_of_the_images_they_are_given() -> None:
    network, images = build("tiny-student", {}), split().images
    assert settle_norms(network, images, batch=len(images))
    first = network.features[0]
    with torch.no_grad():
        seen = first.conv((torch.from_numpy(images).float() / 255 - 0.5) / 0.25)
    assert torch.allclose(first.norm.running_mean, seen.mean((0, 2, 3)), atol=1e-5)
    assert first.norm.momentum is not None
    assert not settle_norms(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 2)), images)


def test_features_of_unlike_networks_are_compared_by_their_paths() -> None:
    who = trainer()
    terms = (Term(method="hint"), Term(method="attention"))
    plan = msgspec.structs.replace(who.recipe.distill, steps=3, terms=terms)
    student, teacher = build("tiny-student", {}), build("tiny-teacher", {})
    before = predict(student, split().images)
    fit_teacher(who, "distill", student, teacher, split(), split(), plan=plan)
    assert not np.allclose(before, predict(student, split().images))
    lonely = msgspec.structs.replace(
        who.recipe, student=msgspec.structs.replace(who.recipe.student, features=())
    )
    with pytest.raises(RecipeError, match="as many module paths"):
        fit_teacher(
            Trainer(recipe=lonely, engine=who.engine, store=who.store, progress=quiet),
            "distill",
            student,
            teacher,
            split(),
            split(),
            plan=plan,
        )


def test_training_on_a_gpu_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="finds no GPU"):
        start(msgspec.structs.replace(read_recipe().engine, device="cuda"))
    assert start(msgspec.structs.replace(read_recipe().engine, device="auto")).device.type == "cpu"


def test_mixed_precision_trains_too() -> None:
    plan = msgspec.structs.replace(read_recipe().engine, precision="bf16")
    who = Trainer(
        recipe=parse_recipe(brief(), "brief"), engine=start(plan), store=Store(None), progress=quiet
    )
    network = build("tiny-student", {})
    fit_labels(who, "pretrain", network, split(), Training(steps=2, batch=8, learning_rate=1e-3))
    assert {part.dtype for part in network.parameters()} == {torch.float32}


def test_torch_is_left_as_it_was() -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with deterministic(before[0] + 1):
        assert torch.get_num_threads() == before[0] + 1
        assert torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
