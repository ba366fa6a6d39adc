"""`kdbench students`: list the students that have a name, show one, verify a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kdbench.card import Card
    from kdbench.spec import Student


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List, show and verify students: the bundles that are benchmarked."""
    if context.invoked_subcommand is None:
        context.invoke(list_students)


@command.command("list")
def list_students() -> None:
    """List the students that ship with kdbench, and those that it makes when they are first asked for."""
    from kdbench import nursery
    from kdbench.student import embedded, open_student, read_card

    for name in embedded():
        student = open_student(name)
        click.echo(f"{name:<16} {read_card(student).title}  ({_count(student.parameters)} parameters)")
    made = nursery.makeable()
    if made:
        click.echo("\nMade when `kdbench run` first asks for them:")
    for name in made:
        click.echo(f"{name:<16} {nursery.title(name)}  ({_making(name)})")


@command.command()
@click.argument("student")
def show(student: str) -> None:
    """Show what is known of STUDENT: a name that `list` has, or a bundle's folder."""
    from kdbench import render
    from kdbench.student import read_card

    opened = _opened(student)
    card = read_card(opened)
    for label, text in _facts(opened, card):
        click.echo(f"{label:<12} {text}")
    if card.ladder:
        click.echo()
        render.ladder(render.console(stderr=False), card)


@command.command()
@click.argument("path")
def verify(path: str) -> None:
    """Verify the bundle at PATH: every file's size and sha256, and that its arrays are what the card says.

    A sha256 proves that nothing was altered since the card was written, not who wrote the card.
    """
    from kdbench.student import load_calibration, load_evaluation

    student = _opened(path)
    images = len(load_evaluation(student))
    if "calibration" in student.files:
        load_calibration(student)
    click.echo(f"{student.name}: {len(student.files)} files and {images} evaluation images are whole.")
    click.echo(f"sha256 {student.sha256}")


def _opened(where: str) -> Student:
    """Open a student as `kdbench run` does, but make none."""
    from kdbench import nursery
    from kdbench.errors import StudentError
    from kdbench.student import embedded, open_student

    if where not in nursery.makeable():
        if where not in embedded() and not (where and Path(where).exists()):
            raise nursery.unknown(where)
        return open_student(where)
    for weights in nursery.WEIGHTS:
        if (student := nursery.kept(where, weights)) is not None:
            return student
    raise StudentError(
        f"The student {where} is not made yet.", hint=f"`kdbench run {where}` makes it when it starts."
    )


def _making(name: str) -> str:
    """Say which weights of a student are there already, and how long the trained ones take."""
    from kdbench import nursery

    there = [weights for weights in nursery.WEIGHTS if nursery.kept(name, weights) is not None]
    seconds = nursery.about_s(name)
    takes = f"takes about {seconds:.0f} s" if seconds else "takes its time"
    return f"{takes if 'trained' not in there else 'made'}; in the cache: {', '.join(there) or 'not yet'}"


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _facts(student: Student, card: Card) -> list[tuple[str, str]]:
    facts = [
        ("student", f"{card.name}  {card.title}"),
        ("task", f"{card.task}: {', '.join(card.classes)}"),
        *(("input", f"{tensor.name} {tensor.dtype} {tensor.shape}") for tensor in card.inputs),
        *(("output", f"{tensor.name} {tensor.dtype} {tensor.shape}") for tensor in card.outputs),
        (
            "network",
            f"{card.network.factory or 'ONNX only'}, {_count(card.network.parameters)} parameters, "
            f"{_count(card.network.macs)} multiply-accumulates an image",
        ),
    ]
    if card.teacher:
        facts.append(("teacher", f"{card.teacher.name}, {_count(card.teacher.parameters)} parameters"))
    facts += [
        ("trained", "yes" if card.trained else "no: its accuracy means nothing"),
        ("precision", "" if card.precision == "fp32" else f"{card.precision}, as it is stored"),
        ("batch", "" if card.batch is None else f"{card.batch} only, built into the graph"),
        ("labels", "" if card.data.labelled else "none: nobody knows the right answers"),
        ("data", f"{card.data.generator}; {card.data.evaluation} evaluation images, {card.data.licence}"),
        ("citation", card.data.citation),
        ("licence", card.licence),
        ("sha256", student.sha256),
        *(("file", f"{file.path}  {file.bytes:,} bytes") for file in card.files.values()),
    ]
    return [(label, text) for label, text in facts if text]
