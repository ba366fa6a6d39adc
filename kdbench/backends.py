"""The typed facade over pluggy: the rest of kdbench sees a `Backend`, never a hook.

Every backend has a plugin manager of its own, so that each hook has exactly one plugin to answer
it: none can answer for another, and a broken one is known by name. Whatever a plugin does wrong
leaves here as a BackendError of that backend and phase.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

import pluggy

from kdbench import hookspecs
from kdbench.answers import HINT, availability_fault, broken, inert, info_faults, kind_of, promised, vouched
from kdbench.discovery import GROUP, Source, nearest
from kdbench.errors import BackendError, ContractError, KdbenchError, ObserverError
from kdbench.observing import guarded
from kdbench.options import check_options as check_options
from kdbench.spec import (
    API,
    Artifact,
    Availability,
    Available,
    BackendInfo,
    Pipelined,
    Placement,
    Runner,
    Session,
    Student,
    Target,
    Unavailable,
)
from kdbench.wire import artifact_to_json

_PREFIX = "kdbench_"
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith(_PREFIX))
"""The names of the five hooks, in the order in which they are called."""

_LONGEST = 400


@dataclass(frozen=True, slots=True, eq=False)
class Backend:
    """A connected plugin; each method calls one hook and vouches for what it answers.

    All raise BackendError, with the phase, for whatever the plugin raises; ContractError for an
    answer that the hook does not promise; a KdbenchError raised by the plugin passes unchanged.
    """

    name: str
    info: BackendInfo
    _hooks: pluggy.HookRelay = field(repr=False)

    def describe(self) -> BackendInfo:
        """Ask the plugin again what it is; the same as `info` if it keeps its contract."""
        return _describe(self.name, self._hooks)

    def probe(self) -> Availability:
        """Ask whether the backend can run here and now; an Available names at least one device."""
        answer = _call(self.name, self._hooks.kdbench_probe)
        promised(self.name, "probe", answer, Available, Unavailable)
        if fault := availability_fault(inert(self.name, "probe", answer)):
            raise broken(self.name, "probe", fault)
        return cast("Availability", answer)

    def compile(self, student: Student, target: Target, workdir: Path, shelf: Path | None = None) -> Artifact:
        """Compile the student for a target; the artifact's files exist, in `workdir` or in the bundle.

        shelf: a folder that outlives the call, or None.
        """
        answer = _call(
            self.name,
            self._hooks.kdbench_compile,
            student=student,
            target=target,
            workdir=workdir,
            shelf=shelf,
        )
        artifact = inert(self.name, "compile", promised(self.name, "compile", answer, Artifact))
        with vouched(self.name, "compile"):
            artifact_to_json(artifact, workdir, student)
        return artifact

    def load(self, artifact: Artifact, target: Target) -> Session:
        """Open the artifact; the caller closes the session."""
        session = _call(self.name, self._hooks.kdbench_load, artifact=artifact, target=target)
        with _phase(self.name, "load"):
            close, placement = getattr(session, "close", None), getattr(session, "placement", None)
        if not callable(close):
            raise broken(self.name, "load", f"it answered {kind_of(session)}, which has no close()")
        what = "the placement of its session is"
        inert(self.name, "load", promised(self.name, "load", placement, Placement, what=what))
        return cast("Session", session)

    def run(self, session: Session, batch_size: int, depth: int = 1) -> Runner:
        """Get the callable for one batch size, `Pipelined` for a depth above 1 if that was declared."""
        runner = _call(
            self.name, self._hooks.kdbench_run, session=session, batch_size=batch_size, depth=depth
        )
        if not callable(runner):
            raise broken(self.name, "run", f"it answered {kind_of(runner)}, which cannot be called")
        if depth > 1 and self.info.concurrency == "pipelined" and not isinstance(runner, Pipelined):
            fault = f"it declares pipelined, and its runner for depth {depth} lacks submit() or wait()"
            raise broken(self.name, "run", fault)
        return cast("Runner", runner)


def load_plugin(source: Source, observers: Mapping[str, object] | None = None) -> Backend:
    """Import the plugin that a source names, and connect it.

    Runs the plugin's code: for worker processes only. Raises BackendError of the phase `import` for
    whatever the import raises, and as `connect` does.
    """
    with _phase(source.name, "import"):
        plugin = EntryPoint(source.name, source.value, GROUP).load()
    return connect(source.name, plugin, observers)


def connect(name: str, plugin: object, observers: Mapping[str, object] | None = None) -> Backend:
    """Make a backend of a plugin: any object, such as a module, with the five hooks as attributes.

    observers: by name, objects whose `hookimpl(wrapper=True)` see each call of those hooks.
    Raises ContractError for a hook that is missing, misspelt or has an argument that is not
    specified, for another API number, and for a description that is not sound; ObserverError for an observer
    of which such a thing is true.
    """
    manager = _manager()
    for label, observer in (observers or {}).items():
        manager.register(_Guards(**_wrappers(label, observer)), name=f"observer {label}")
    _register(manager, plugin, name)
    if missing := [hook for hook in HOOKS if hook not in _answered(manager, plugin)]:
        unmarked = [hook for hook in missing if callable(getattr(plugin, hook, None))]
        raise ContractError(
            f"{name} lacks the hooks {', '.join(missing)}.",
            hint=f"Mark with @kdbench.hookimpl: {', '.join(unmarked)}." if unmarked else HINT,
            phase="import",
        )
    return Backend(name, _describe(name, manager.hook), manager.hook)


class _Guards:
    """The guarded wrappers of an observer, for pluggy."""

    def __init__(self, **wrappers: Any) -> None:
        vars(self).update(wrappers)


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _wrappers(name: str, observer: object) -> dict[str, Any]:
    """Give the wrappers of an observer by hook, guarded, once pluggy has found nothing wrong with them."""
    manager, label = _manager(), f"the observer {name}"
    try:
        _register(manager, observer, label)
        found = {
            caller.name: impl
            for caller in manager.get_hookcallers(observer) or ()
            for impl in caller.get_hookimpls()
        }
        # pluggy's older kind of wrapper, hookwrapper=True, is sent something else than the answer.
        if answering := [hook for hook, impl in found.items() if not impl.wrapper]:
            raise broken(label, "import", f"it answers {', '.join(answering)}, and may only wrap")
    except BackendError as fault:
        told = fault.message[:1].upper() + fault.message[1:]
        raise ObserverError(told, hint=fault.hint, phase="observe") from fault
    return {hook: guarded(name, hook, impl.function) for hook, impl in found.items()}


def _register(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    with _phase(name, "import"):
        try:
            manager.register(plugin, name=name)
        except pluggy.PluginValidationError as error:
            raise _unknown_argument(plugin, name) or broken(name, "import", _one_line(str(error))) from error
    for caller in manager.get_hookcallers(plugin) or ():
        if not caller.has_spec():
            meant = nearest(caller.name, HOOKS)
            raise ContractError(
                f"{name} has a hook '{caller.name}', which does not exist.",
                hint=f"Did you mean '{meant}'?" if meant else f"The hooks are {', '.join(HOOKS)}.",
                phase="import",
            )


def _unknown_argument(plugin: object, name: str) -> ContractError | None:
    """Name the first argument that a hook of the plugin takes and is not given; fewer words than pluggy's."""
    for hook in HOOKS:
        given = list(inspect.signature(getattr(hookspecs, hook)).parameters)
        taken = inspect.signature(getattr(plugin, hook, None) or (lambda: None)).parameters.values()
        # One with a default is the plugin's own affair: pluggy never passes it.
        for argument in (one.name for one in taken if one.default is one.empty):
            if argument not in given:
                meant = nearest(argument, given)
                return ContractError(
                    f"{name} takes '{argument}' in {hook}, which is no argument of it.",
                    hint=f"Did you mean '{meant}'?" if meant else f"It has {', '.join(given) or 'none'}.",
                    phase="import",
                )
    return None


def _answered(manager: pluggy.PluginManager, plugin: object) -> list[str]:
    """Name the hooks that a plugin answers itself, rather than wrapping another's answer."""
    return [
        caller.name
        for caller in manager.get_hookcallers(plugin) or ()
        for impl in caller.get_hookimpls()
        if impl.plugin is plugin and not (impl.wrapper or impl.hookwrapper)
    ]


def _describe(name: str, hooks: pluggy.HookRelay) -> BackendInfo:
    info = promised(name, "describe", _call(name, hooks.kdbench_describe), BackendInfo)
    if info.api != API:
        older = isinstance(info.api, int) and info.api < API
        raise ContractError(
            f"{name} is written for API {info.api} of the hooks, and this kdbench has API {API}.",
            hint=f"Install a newer {'version of the plugin' if older else 'kdbench'}.",
            phase="describe",
        )
    inert(name, "describe", info)
    if faults := list(info_faults(info)):
        raise broken(name, "describe", "; ".join(faults))
    return info


def _call(name: str, hook: pluggy.HookCaller, **arguments: object) -> Any:
    with _phase(name, hook.name.removeprefix(_PREFIX)):
        return hook(**arguments)


@contextmanager
def _phase(name: str, phase: str) -> Iterator[None]:
    """Turn whatever a plugin raises into one sentence about that plugin and that phase."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except KdbenchError as error:
        if isinstance(error, BackendError) and not error.phase:
            error.phase = phase
        raise
    except MemoryError as error:
        raise BackendError(f"{name} failed in {phase}: out of memory.", phase=phase) from error
    # Not Exception: a plugin may call sys.exit, and panics of native extensions are beside Exception.
    except BaseException as error:
        text = _one_line(f"{type(error).__name__}: {error}".removesuffix(": "))
        raise BackendError(f"{name} failed in {phase}: {text}", phase=phase) from error


def _one_line(text: str) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return textwrap.shorten(printable, _LONGEST, placeholder=" …")
