"""`kdbench import`: make a bundle of somebody's own classifier, and tell what was found in it."""

from __future__ import annotations

import math
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli.types import Several
from kdbench.problems import quote

if TYPE_CHECKING:
    from kdbench.intake import Taken

    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic since click 8.4, and older ones do as well

_SHAPE = re.compile(r"[1-9]\d{0,6}(x[1-9]\d{0,6}){0,6}", re.ASCII)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_WIDTH = 100
_CLASSES_BYTES = 16 << 20


class Shape(ParamType):
    """The sizes of one input, `3x224x224`."""

    name = "shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Give one number for each axis."""
        if isinstance(value, tuple):
            return value
        if not _SHAPE.fullmatch(str(value)):
            self.fail(f"{quote(value)} is no shape such as 3x224x224.", param, ctx)
        return tuple(int(length) for length in str(value).split("x"))


class Number(ParamType):
    """A finite number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Give the number, or fail for a word, NaN and infinity."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{quote(value)} is no number.", param, ctx)
        return number


class Argument(ParamType):
    """A keyword of a factory, `KEY=VALUE`; the value is read as JSON where it is some, else as text."""

    name = "argument"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Give key and value: a truth value, a number, a text, or a tuple of such."""
        if isinstance(value, tuple):
            return value[0], value[1]
        key, equals, text = str(value).partition("=")
        if not equals or not _KEY.fullmatch(key):
            self.fail(f"{quote(value)} is not KEY=VALUE, such as classes=10 or channels=[16,32].", param, ctx)
        return key, self._plain(text, param, ctx)

    def _plain(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        import msgspec

        known = {"True": True, "False": False}
        if text in known:
            return known[text]
        try:
            found = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError):
            return text
        items = found if isinstance(found, list) else [found]
        if not all(isinstance(item, bool | int | float | str) for item in items):
            self.fail(f"{quote(text)} is no truth value, number or text, nor a list of them.", param, ctx)
        return tuple(found) if isinstance(found, list) else found


class Classes(ParamType):
    """Names separated by commas, or a text file with one name a line."""

    name = "classes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Give the names, at least two, all different."""
        from kdbench.strict import clean

        if isinstance(value, tuple):
            return value
        path, names = Path(str(value)), str(value).split(",")
        if len(names) == 1 and path.is_file():
            if path.stat().st_size > _CLASSES_BYTES:
                self.fail(f"{quote(value)} is too large for a list of names.", param, ctx)
            try:
                names = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
            except UnicodeDecodeError:
                self.fail(f"{quote(value)} is not text in UTF-8.", param, ctx)
        found = tuple(clean(name).strip() for name in names)
        if len(found) < 2 or not all(found) or len(set(found)) != len(found):
            self.fail("The classes must be two names at least, all different, none empty.", param, ctx)
        return found


_HELP = """\
Make a verified bundle of MODEL, a classifier of your own, so that every backend can be timed on it.

MODEL is an ONNX file; or a torch network by its installed name or as package.module:factory, with
--weights; or a model.pt2 of torch.export, with --trust-code. Torch networks are exported to ONNX here.

\b
kdbench import model.onnx --eval test.npz
kdbench import model.onnx --eval photos/ --fit crop --mean 0.48,0.45,0.4 --std 0.22
kdbench import mypackage.nets:small --weights small.safetensors --shape 3x64x64

\b
The model is changed as little as can be, and every change is told:
  batch      a fixed size becomes any, if each image is then answered as before
  scores     one per image becomes two: (0, z) of a logit, (1 - p, p) of a probability
  pixels     nothing is added to the graph: --divisor, --mean and --std say what the
             caller does; what the graph does itself must not be given again
  precision  is found: fp32, fp16, bf16, or int8 for a quantised model
  reference  what the model answers in onnxruntime, unoptimised, or in torch itself

External weight files must lie in the model's own folder; custom operators are refused. Nothing is
unpickled and no file's code runs without --trust-code; a factory that you name is imported and run.

Then: kdbench run NAME
"""

_PATH: Any = click.Path(path_type=Path)


@click.command(name="import", help=_HELP, short_help="Make a bundle of your own classifier.")
@click.argument("model")
@click.option(
    "--eval",
    "evaluation",
    type=_PATH,
    metavar="FILE.npz|DIR",
    help="Images that accuracy is told on: an .npz with `images` (uint8 or float32) and `labels`, or a "
    "folder with one folder of pictures per class. Without, random images show speed and agreement only.",
)
@click.option(
    "--name", default="", metavar="NAME", help="What the student is called.  [default: as the file]"
)
@click.option(
    "--output", type=_PATH, metavar="DIR", help="The bundle's folder; it must not exist.  [default: ./NAME]"
)
@click.option("--overwrite", is_flag=True, help="Replace the bundle that is there.")
@click.option(
    "--weights",
    type=_PATH,
    metavar="FILE",
    help="A factory's weights: .safetensors, or with --trust-code a state dict in a .pt.",
)
@click.option(
    "--argument",
    "arguments",
    type=Argument(),
    multiple=True,
    metavar="KEY=VALUE",
    help="A keyword of the factory, such as classes=10; may be given again.",
)
@click.option(
    "--trust-code", is_flag=True, help="Load files that can run code: .pt2 programs and pickled weights."
)
@click.option(
    "--shape",
    type=Shape(),
    metavar="3x224x224",
    help="The size of one input, where the model leaves it open.",
)
@click.option("--output-tensor", default="", metavar="NAME", help="Which of several outputs is the answer.")
@click.option(
    "--divisor",
    type=Number(),
    metavar="255",
    help="What an application divides a pixel by before it calls the model.  [default: 255 for stored bytes "
    "and a floating input, else 1]",
)
@click.option(
    "--mean",
    type=Several(Number()),
    metavar="M[,M,M]",
    help="... then subtracts, per channel.  [default: nothing]",
)
@click.option(
    "--std",
    type=Several(Number()),
    metavar="S[,S,S]",
    help="... then divides by, per channel.  [default: nothing]",
)
@click.option(
    "--layout", type=click.Choice(["NCHW", "NHWC"]), help="Where the channels stand, if that is not clear."
)
@click.option(
    "--meaning",
    type=click.Choice(["logits", "probabilities"]),
    help="What the scores are; refused if they are not.  [default: found out]",
)
@click.option(
    "--classes", type=Classes(), metavar="A,B|FILE", help="Names of the classes, in the order of the outputs."
)
@click.option(
    "--fit",
    type=click.Choice(["stretch", "crop"]),
    help="Bring pictures of a folder to the model's size, all of them or their middle.",
)
@click.option(
    "--calibration",
    type=_PATH,
    metavar="FILE.npz|DIR",
    help="Images for int8, none of which may be in --eval.",
)
@click.option(
    "--images",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="How many random images, 64 at least, or how many of --eval.  [default: 128, or all]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 2),
    default=0,
    show_default=True,
    help="Draw images and weights from it.",
)
@click.option(
    "--licence", default="not stated", show_default=True, metavar="TEXT", help="Licence of the model."
)
@click.option("-q", "--quiet", is_flag=True, help="Print only the path of the bundle.")
def command(*, quiet: bool, **asked: Any) -> None:
    """Import MODEL, write its bundle and say what was found, done to it, and is worth bearing in mind."""
    from kdbench.cli.room import bounded
    from kdbench.intake import Ask, take
    from kdbench.interruption import heard_once

    asked |= {key: asked[key] or () for key in ("shape", "mean", "std", "classes")}
    with heard_once(), bounded():
        taken = take(Ask(**asked), _silent if quiet else _progress)
    if quiet:
        click.echo(click.format_filename(taken.student.root))
    else:
        _show(taken)


def _show(taken: Taken) -> None:
    for label, text in taken.facts:
        _line(label, text)
    _line("accuracy", _accuracy(taken))
    for label, lines in (("changed", taken.changes), ("note", taken.notes)):
        for text in lines:
            _line(label, text)
    folder = click.format_filename(taken.student.root)
    click.echo(f"\nBundle: {folder}  (sha256 {taken.student.sha256[:12]})")
    click.echo(f"Next:   kdbench run {_quoted(_nearby(taken.student.root))}")


def _accuracy(taken: Taken) -> str:
    if taken.correct is None:
        return f"none: {taken.reason}"
    return (
        f"{100 * taken.correct / taken.images:.1f} %, {taken.correct} of {taken.images} right (the reference)"
    )


def _line(label: str, text: str) -> None:
    width = min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns)
    indent = " " * 12
    click.echo(click.wrap_text(text, max(40, width), initial_indent=f"{label:<12}", subsequent_indent=indent))


def _nearby(path: Path) -> str:
    """Give a path below the working folder as one would type it, and as no option or other student's name."""
    from kdbench.nursery import makeable
    from kdbench.student import embedded

    here = Path.cwd()
    near = str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
    return f"./{near}" if near.startswith("-") or near in (*embedded(), *makeable()) else near


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def _silent(step: str) -> None:
    """Tell nothing."""


def _progress(step: str) -> None:
    """Redraw one line on a terminal; elsewhere write a line for each step."""
    text = f"{step} …"
    click.echo(f"\r{text:<40}\r" if sys.stderr.isatty() else text, err=True, nl=not sys.stderr.isatty())
