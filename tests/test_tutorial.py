"""docs/tutorial-backend.md: its code is the plugin's, its commands exist, its sentences are kdbench's."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import click
import pytest

from kdbench import cli
from kdbench.discovery import Source
from kdbench.testing import run_apart

HOME = Path(__file__).parent.parent
PLUGIN = HOME / "plugins" / "kdbench-mnn"
PAGE = (HOME / "docs" / "tutorial-backend.md").read_text()
FILES = (
    "pyproject.toml",
    "src/kdbench_mnn/__init__.py",
    "src/kdbench_mnn/_session.py",
    "tests/test_contract.py",
)


def blocks() -> list[tuple[str, str]]:
    """List the blocks of code as (file, text): the file stands in a comment, the first line of each."""
    found = re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) == len(re.findall(r"^```(?:python|toml)$", PAGE, re.MULTILINE)), (
        "a block without a file"
    )
    return found


@pytest.mark.parametrize(("file", "text"), blocks())
def test_a_block_is_a_piece_of_the_plugin(file: str, text: str):
    assert text in (PLUGIN / file).read_text()


@pytest.mark.parametrize("file", FILES)
def test_the_blocks_of_a_file_are_all_of_it(file: str):
    shown = "".join(text for name, text in blocks() if name == file)
    lacking = [line for line in (PLUGIN / file).read_text().splitlines() if line not in shown.splitlines()]
    assert lacking == []


def commands() -> list[str]:
    shell = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines = [line.split("#")[0].strip() for line in "".join(shell).splitlines()]
    return [line.split(" | ")[0] for line in lines if line.startswith("kdbench ")]


@pytest.mark.parametrize("line", commands())
def test_a_command_is_one_of_kdbench_with_the_options_that_it_is_given(line: str):
    command: click.Command = cli.main
    _, *words = shlex.split(line)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words[0]
        command, words = found, words[1:]
    known = {option for one in command.params for option in one.opts + one.secondary_opts}
    assert {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= known


HOOKS, SESSION = "__init__.py", "_session.py"
RUN = "code = self._net.runSession(self._session)"
LATER = "__import__('threading').Timer(0.005, self._net.runSession, (self._session,)).start(); code = 0"

MISTAKES = {
    "a hook is misspelt": [(HOOKS, "def kdbench_compile(", "def kdbench_compil(")],
    "an argument has another name": [
        (HOOKS, "batch_size: int", "size: int"),
        (HOOKS, "(batch_size)", "(size)"),
    ],
    "`hookimpl` is forgotten": [(HOOKS, "@hookimpl\ndef kdbench_run", "def kdbench_run")],
    "the vendor is imported at the top": [(HOOKS, "import json\n", "import json\n\nimport MNN\n")],
    "probe lets an `ImportError` out": [(HOOKS, "except ImportError as", "except MemoryError as")],
    "a hook forgets its `return`": [(HOOKS, "return Artifact(", "Artifact(")],
    "the artifact remembers its path": [
        (HOOKS, "notes=notes)", 'notes={**notes, "model": str(workdir / "student.mnn")})'),
        (HOOKS, "artifact.files[0]", 'artifact.notes["model"]'),
    ],
    "the batch is not resized": [(SESSION, "net.resizeTensor(", "(")],
    "one array is answered, and no tuple": [(SESSION, "return self._answer", "return self._answer[0]")],
    "the inputs are worked on in place": [
        (SESSION, "np.copyto(source, given)", "np.add(given, 1, out=given)")
    ],
    "the call does not wait": [
        (SESSION, RUN, LATER),
        (SESSION, "return self._answer", "return tuple(self._results)"),
    ],
    "the threads are not passed on": [(SESSION, 'self._config["numThread"] = target.threads', "pass")],
    "the float is taken for the number of threads": [
        (SESSION, 'struct.unpack("i", struct.pack("f", ', "(int("),
        (SESSION, "THREAD_NUMBER)))", "THREAD_NUMBER)),)"),
    ],
    "close forgets the runners": [(SESSION, "runner.close()", "pass")],
}
"""What is changed in which file of the plugin, by what the page calls it."""


def told() -> dict[str, tuple[str, str]]:
    """Give the page's table of mistakes: which check breaks, and what it says."""
    rows = re.findall(r"^\| (.+?) \| `([a-z-]+)` \| (.+) \|$", PAGE, re.MULTILINE)
    return {mistake: (check, sentence) for mistake, check, sentence in rows}


def test_the_page_names_the_mistakes_that_are_tried():
    assert set(told()) == set(MISTAKES)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_called_what_the_page_says(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("MNN")
    shutil.copytree(PLUGIN / "src", tmp_path, dirs_exist_ok=True)
    for file, sound, wrong in MISTAKES[mistake]:
        path = tmp_path / "kdbench_mnn" / file
        text = path.read_text()
        assert sound in text
        path.write_text(text.replace(sound, wrong))
    monkeypatch.syspath_prepend(tmp_path)
    check, sentence = told().get(mistake, ("opens", ""))
    source = Source("mnn", "kdbench_mnn", "kdbench-mnn", "0.1.0", mistake)
    (finding,) = run_apart(source, only=[check])
    assert finding.verdict == "broken", finding
    wanted = ".*".join(re.escape(piece) for piece in sentence.split("…"))
    assert re.fullmatch(wanted, finding.seen, re.DOTALL), finding.seen
