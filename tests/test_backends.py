from __future__ import annotations

import sys
from types import ModuleType

import pluggy
import pytest

from kdbench import hookimpl
from kdbench.backends import HOOKS, Backend, connect, load_plugin
from kdbench.discovery import Source, installed
from kdbench.errors import BackendError, ContractError, ObserverError, StudentError, Unsupported
from kdbench.spec import API, Available, Target, Unavailable

TARGET = Target(device="cpu")


@pytest.fixture
def plugin(plugin_source):
    """Make a plugin from source: a module of its own, healthy but for the hooks given."""

    def make(before="", **hooks) -> ModuleType:
        module = ModuleType("throw_away")
        exec(plugin_source(before, **hooks), vars(module))
        return module

    return make


@pytest.fixture
def ask(paper_student, tmp_path):
    """Call one phase of a backend, after the healthy ones that must come before it."""

    def phase(backend: Backend, name: str):
        if name in ("describe", "probe"):
            return getattr(backend, name)()
        artifact = backend.compile(paper_student, TARGET, tmp_path)
        if name == "compile":
            return artifact
        session = backend.load(artifact, TARGET)
        return session if name == "load" else backend.run(session, 4)

    return phase


def hook(name: str, body: str) -> dict[str, str]:
    return {name: f"@hookimpl\ndef {name}():\n    {body}\n"}


def describing(text: str) -> dict[str, str]:
    return hook(
        "kdbench_describe",
        f"return BackendInfo({text})" if "api=" in text else f"return BackendInfo(api=1, {text})",
    )


def test_a_healthy_plugin_answers_every_phase(plugin, ask, paper_student):
    backend = connect("fast", plugin())
    assert backend.describe() == backend.info
    assert backend.probe() == Available("1.0", ask(backend, "probe").devices)
    assert ask(backend, "compile").files == (paper_student.files["weights"],)
    (logits,) = ask(backend, "run")(())
    assert logits.shape == (4, 3)


def test_a_plugin_may_be_an_object_in_a_module(make_plugin, monkeypatch):
    code = """
from kdbench import *

class Plugin:
    @hookimpl
    def kdbench_describe(self):
        return BackendInfo(api=1, title="Object", devices=("cpu",), precisions=("fp32",))
    @hookimpl
    def kdbench_probe(self):
        return Unavailable("It is an example.", "Write a real one.")
    @hookimpl
    def kdbench_compile(self): ...
    @hookimpl
    def kdbench_load(self): ...
    @hookimpl
    def kdbench_run(self): ...

backend = Plugin()
"""
    folder = make_plugin("thing", code, attribute="backend")
    monkeypatch.syspath_prepend(folder)
    backend = load_plugin(installed([str(folder)])[0]["thing"])
    assert backend.info.title == "Object"
    assert backend.probe() == Unavailable("It is an example.", "Write a real one.")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_vendor", "ModuleNotFoundError: No module named 'no_such_vendor'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def (", "SyntaxError"),
        ("raise MemoryError", "out of memory"),
        ("raise BaseException('a panic\\nin two lines')", "BaseException: a panic in two lines"),
    ],
)
def test_a_plugin_that_fails_to_import_is_named_with_its_reason(make_plugin, monkeypatch, code, reason):
    monkeypatch.syspath_prepend(make_plugin("broken", code))
    with pytest.raises(BackendError, match="broken failed in import: ") as caught:
        load_plugin(Source("broken", "kdbench_broken", "kdbench-broken", "1.0", ""))
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.phase == "import"


@pytest.mark.parametrize("value", ["kdbench_absent", "kdbench_here:absent", "not a value", ""])
def test_an_entry_point_that_names_nothing_fails_in_import(make_plugin, monkeypatch, value):
    monkeypatch.syspath_prepend(make_plugin("here", ""))
    with pytest.raises(BackendError, match="here failed in import"):
        load_plugin(Source("here", value, "kdbench-here", "1.0", ""))


def test_a_misspelt_hook_is_named_beside_the_real_one(plugin):
    with pytest.raises(ContractError, match="fast has a hook 'kdbench_complie'") as caught:
        connect("fast", plugin(**hook("kdbench_complie", "pass")))
    assert caught.value.hint == "Did you mean 'kdbench_compile'?"
    assert caught.value.phase == "import"


@pytest.mark.parametrize("missing", HOOKS)
def test_a_missing_hook_is_named(plugin, missing):
    with pytest.raises(ContractError, match=f"fast lacks the hooks {missing}\\."):
        connect("fast", plugin(**{missing: ""}))


def test_a_hook_without_its_mark_is_missing_and_the_hint_says_why(plugin):
    with pytest.raises(ContractError, match="lacks the hooks kdbench_run") as caught:
        connect("fast", plugin(kdbench_run="def kdbench_run(session): ..."))
    assert caught.value.hint == "Mark with @kdbench.hookimpl: kdbench_run."


def test_a_hook_that_only_wraps_is_missing(plugin):
    wrapper = "@hookimpl(wrapper=True)\ndef kdbench_run():\n    return (yield)\n"
    with pytest.raises(ContractError, match="lacks the hooks kdbench_run"):
        connect("fast", plugin(kdbench_run=wrapper))


def test_an_argument_that_is_not_specified_is_named(plugin):
    wrong = "@hookimpl\ndef kdbench_run(session, batch):\n    pass\n"
    with pytest.raises(ContractError, match=r"kdbench_run.*batch") as caught:
        connect("fast", plugin(kdbench_run=wrong))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(("api", "fix"), [(API - 1, "version of the plugin"), (API + 1, "kdbench")])
def test_another_api_number_is_refused_with_both_numbers_and_the_fix(plugin, api, fix):
    described = describing(f"title='X', devices=('cpu',), precisions=('fp32',), api={api}")
    with pytest.raises(ContractError, match=f"API {api} of the hooks.*has API {API}") as caught:
        connect("fast", plugin(**described))
    assert caught.value.hint == f"Install a newer {fix}."


@pytest.mark.parametrize(
    ("facts", "fault"),
    [
        ("title='', devices=('cpu',), precisions=('fp32',)", "title is empty"),
        ("title='X', devices=(), precisions=('fp32',)", r"devices is \(\)"),
        ("title='X', devices=('cpu', 'cpu'), precisions=('fp32',)", "none twice"),
        ("title='X', devices=('cpu',), precisions=()", "precisions is"),
        ("title='X', devices=('cpu',), precisions=('fp64',)", "'fp64'"),
        ("title='X', devices=['cpu'], precisions=('fp32',)", r"devices is \['cpu'\] and would arrive"),
        ("title=7, devices=('cpu',), precisions=('fp32',)", "Expected `str`, got `int`"),
        ("title='X', devices=('cpu',), precisions=('fp32',), boundaries=('device',)", "mandatory 'host'"),
        ("title='X', devices=('cpu',), precisions=('fp32',), concurrency='magic'", "'magic'"),
    ],
)
def test_a_description_is_checked_to_the_bottom(plugin, facts, fault):
    with pytest.raises(ContractError, match=fault) as caught:
        connect("fast", plugin(**describing(facts)))
    assert caught.value.phase == "describe"


@pytest.mark.parametrize(
    ("option", "fault"),
    [
        ("name='a', type='int', default=9, high=8", "option 'a' cannot be 9: at most 8 is expected"),
        ("name='a', type='int', default=0, low=1", "option 'a' cannot be 0: at least 1 is expected"),
        ("name='a', type='int', default=True", "option 'a' cannot be True: a whole number is expected"),
        ("name='a', type='str', default='x', choices=('y',)", "option 'a' cannot be 'x': it takes y"),
        ("name='a', type='str', default='x', choices=('x', 1)", "option 'a' cannot be 1"),
        ("name='a', type='str', default='x', low=1", "option 'a' has limits"),
        ("name='a', type='float', default=float('nan')", "cannot be written as JSON"),
        ("name='A=b', type='int', default=1", "'A=b' is no name for an option"),
        ("name='shapes', type='int', default=1", "'shapes' is no name for an option"),
    ],
)
def test_a_declared_option_must_allow_its_own_default(plugin, option, fault):
    described = describing(
        f"title='X', devices=('cpu',), precisions=('fp32',), options=(Option(help='', {option}),)"
    )
    with pytest.raises(ContractError, match=fault):
        connect("fast", plugin(**described))


@pytest.mark.parametrize("phase", ["probe", "compile", "load", "run"])
def test_a_hook_that_answers_nothing_breaks_its_contract(plugin, ask, phase):
    backend = connect("fast", plugin(**hook(f"kdbench_{phase}", "return None")))
    with pytest.raises(ContractError, match=f"contract of its {phase} phase: it answered nothing") as caught:
        ask(backend, phase)
    assert caught.value.phase == phase
    assert "docs/hooks.md" in caught.value.hint


@pytest.mark.parametrize("phase", ["probe", "compile", "load", "run"])
def test_an_answer_of_the_wrong_type_is_named(plugin, ask, phase):
    backend = connect("fast", plugin(**hook(f"kdbench_{phase}", "return 3")))
    with pytest.raises(
        ContractError, match=f"contract of its {phase} phase: it answered a value of type int"
    ):
        ask(backend, phase)


@pytest.mark.parametrize("body", ["return None", "return {'title': 'X'}"])
def test_a_description_of_the_wrong_type_is_refused(plugin, body):
    with pytest.raises(ContractError, match="BackendInfo is promised"):
        connect("fast", plugin(**hook("kdbench_describe", body)))


@pytest.mark.parametrize("phase", ["probe", "compile", "load", "run"])
@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("ValueError('two\\nlines \\x1b[31m')", "ValueError: two lines"),
        ("SystemExit(1)", "SystemExit: 1"),
        ("MemoryError()", "out of memory."),
        ("KeyError()", "KeyError"),
    ],
)
def test_whatever_a_hook_raises_is_told_in_one_line(plugin, ask, phase, raised, told):
    backend = connect("fast", plugin(**hook(f"kdbench_{phase}", f"raise {raised}")))
    with pytest.raises(BackendError, match=f"fast failed in {phase}: {told}") as caught:
        ask(backend, phase)
    assert caught.value.message.isprintable()
    assert caught.value.phase == phase
    assert type(caught.value) is BackendError
    assert caught.value.__cause__ is not None


def test_a_describe_that_raises_is_told_by_connect(plugin):
    with pytest.raises(BackendError, match="fast failed in describe: OSError: gone"):
        connect("fast", plugin(**hook("kdbench_describe", "raise OSError('gone')")))


def test_unsupported_passes_and_learns_its_phase(plugin, ask):
    raising = "from kdbench import Unsupported; raise Unsupported('no ONNX here', hint='export it')"
    backend = connect("fast", plugin(**hook("kdbench_compile", raising)))
    with pytest.raises(Unsupported, match="no ONNX here export it") as caught:
        ask(backend, "compile")
    assert caught.value.phase == "compile"


def test_errors_of_kdbench_itself_pass_unchanged(plugin, ask):
    raising = "from kdbench.errors import StudentError; raise StudentError('altered')"
    backend = connect("fast", plugin(**hook("kdbench_load", raising)))
    with pytest.raises(StudentError, match="altered"):
        ask(backend, "load")


def test_an_interrupt_is_the_users_and_passes(plugin, ask):
    backend = connect("fast", plugin(**hook("kdbench_probe", "raise KeyboardInterrupt")))
    with pytest.raises(KeyboardInterrupt):
        ask(backend, "probe")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("Unavailable(' ')", "Unavailable without a reason"),
        ("Available('1.0', ())", r"Available with the devices \[\]"),
        ("Available('1.0', (Device('cpu', 'a'), Device('cpu', 'b')))", "none twice"),
        ("Available(1.0, (Device('cpu', 'a'),))", "Expected `str`, got `float`"),
    ],
)
def test_a_probe_must_say_why_not_or_where(plugin, ask, answer, fault):
    backend = connect("fast", plugin(**hook("kdbench_probe", f"return {answer}")))
    with pytest.raises(ContractError, match=fault):
        ask(backend, "probe")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("Artifact((workdir / 'never-written',))", "no such file was written"),
        ("Artifact((Path(__import__('sys').executable),))", "which lies neither in"),
        ("Artifact(('model.onnx',))", "files is"),
        ("Artifact((), {'handle': object()})", "cannot be written as JSON"),
        ("Artifact((), {'count': 3})", "Expected `str`, got `int`"),
    ],
)
def test_an_artifact_must_be_inert_and_lie_where_it_may(plugin, ask, answer, fault):
    code = f"@hookimpl\ndef kdbench_compile(workdir):\n    return {answer}\n"
    backend = connect("fast", plugin("from pathlib import Path", kdbench_compile=code))
    with pytest.raises(ContractError, match=f"fast breaks the contract of its compile phase: .*{fault}"):
        ask(backend, "compile")


def test_an_artifact_in_the_work_directory_is_accepted(plugin, ask, tmp_path):
    code = """
        @hookimpl
        def kdbench_compile(student, workdir):
            (workdir / "model.bin").write_bytes(b"x")
            return Artifact((workdir / "model.bin", student.files["weights"]))
    """
    assert ask(connect("fast", plugin(kdbench_compile=code)), "compile").files[0] == tmp_path / "model.bin"


@pytest.mark.parametrize(
    ("placement", "fault"),
    [
        ("'cpu'", "the placement of its session is a value of type str, and Placement is promised"),
        ("None", "the placement of its session is nothing"),
        ("Placement(device='cpu', precision='fp99')", "fp99"),
    ],
)
def test_a_session_must_tell_where_it_runs(plugin, ask, placement, fault):
    code = f"""
        class Opened:
            placement = {placement}
            def close(self): ...

        @hookimpl
        def kdbench_load():
            return Opened()
    """
    with pytest.raises(ContractError, match=fault):
        ask(connect("fast", plugin(kdbench_load=code)), "load")


def test_a_placement_that_raises_is_a_fault_of_load(plugin, ask):
    code = """
        class Opened:
            @property
            def placement(self):
                raise RuntimeError("lost")
            def close(self): ...

        @hookimpl
        def kdbench_load():
            return Opened()
    """
    with pytest.raises(BackendError, match="fast failed in load: RuntimeError: lost"):
        ask(connect("fast", plugin(kdbench_load=code)), "load")


def test_a_backend_that_declares_pipelined_must_pipeline_above_depth_one(plugin, ask):
    described = describing("title='X', devices=('cpu',), precisions=('fp32',), concurrency='pipelined'")
    backend = connect("fast", plugin(**described))
    session = ask(backend, "load")
    assert callable(backend.run(session, 1, depth=1))
    with pytest.raises(ContractError, match=r"runner for depth 4 lacks submit\(\) or wait\(\)"):
        backend.run(session, 1, depth=4)


def test_an_observer_sees_a_phase_and_what_it_answered(plugin, ask, paper_student):
    class Observer:
        seen = ()

        @hookimpl(wrapper=True)
        def kdbench_compile(self, student, target):
            artifact = yield
            self.seen = (student, target, artifact)
            return artifact

    observer = Observer()
    artifact = ask(connect("fast", plugin(), {"watcher": observer}), "compile")
    assert observer.seen == (paper_student, TARGET, artifact)


def test_an_observer_may_not_answer_for_the_plugin(plugin):
    class Usurper:
        @hookimpl
        def kdbench_probe(self):
            return Unavailable("mine now")

    with pytest.raises(ObserverError, match=r"The observer watcher .*kdbench_probe, and may only wrap"):
        connect("fast", plugin(), {"watcher": Usurper()})


def test_backends_do_not_share_hooks(plugin):
    one = connect("one", plugin())
    two = connect("two", plugin(**hook("kdbench_probe", "return Unavailable('two only')")))
    assert isinstance(one.probe(), Available)
    assert isinstance(two.probe(), Unavailable)


def test_every_hook_answers_once():
    manager = pluggy.PluginManager("kdbench")
    manager.add_hookspecs(sys.modules["kdbench.hookspecs"])
    specs = [getattr(manager.hook, name).spec for name in HOOKS]
    assert len(specs) == 5
    assert all(spec.opts["firstresult"] for spec in specs)
