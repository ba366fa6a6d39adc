"""What `kdbench run` asks of `bench`, put together from profile and options."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from kdbench import journal, nursery, observers, parcel, results, selection
from kdbench.bench import Request
from kdbench.errors import BackendUnavailable, UnknownBackend, UsageError
from kdbench.profile import Profile, load, resolve
from kdbench.request import fitted, networks

DECIDED = {
    "STUDENT": "student",
    "--weights": "weights",
    "--eval": "evaluation",
    "--with-teacher": "with_teacher",
    "--boundary": "boundary",
    "-o": "settings",
}
"""What cannot be asked of artifacts that are compiled already, by option."""


def build(
    *,
    writing: bool,
    quiet: bool,
    profile: str,
    output: Path | None,
    artifacts: tuple[Path, ...] = (),
    trust_code: bool = False,
    **asked: Any,
) -> Request:
    """Turn the options of `kdbench run` into what `bench` takes.

    Everything that can be refused before a backend is started is refused here, as a KdbenchError. What can
    be refused before a student is made comes before that.
    writing: whether a result is going to be written; a dry run may name a file that exists.
    quiet: whether nothing is told of a student that is made.
    """
    if asked["blocks"] and asked["budget"]:
        raise UsageError(
            "--blocks and --budget exclude each other.", hint="Give the one that matters to you."
        )
    if artifacts:
        return _of_artifacts(artifacts, profile, output, writing=writing, trust_code=trust_code, **asked)
    if trust_code:
        raise UsageError(
            "--trust-code goes with --artifact, or with --resume of such a run.", hint="Leave it out."
        )
    plan = _observed(profile, **asked)
    target = output_path(output, plan.name, writing=writing)
    student = nursery.find(
        plan.plan.student,
        weights=asked["weights"],
        evaluation=asked["evaluation"],
        tell=None if quiet else partial(click.echo, err=True),
    )
    plan, notes = fitted(
        plan,
        student,
        precisions_asked=bool(asked["precisions"]),
        batches_asked=bool(asked["batches"]),
    )
    networks(student, plan.plan)
    return Request(
        student=student,
        profile=plan,
        backends=asked["backends"],
        devices=asked["devices"],
        options=options_by_backend(asked["settings"]),
        budget_s=asked["budget"],
        output=target,
        argv=tuple(sys.argv[1:]),
        plugins=plugins(),
        notes=notes,
    )


def _of_artifacts(
    folders: tuple[Path, ...],
    profile: str,
    output: Path | None,
    *,
    writing: bool,
    trust_code: bool,
    **asked: Any,
) -> Request:
    """Ask for what parcels hold: nothing of them is opened unless they are trusted."""
    idle = [option for option, name in DECIDED.items() if asked[name] not in (None, False, (), "trained")]
    if idle:
        raise UsageError(
            f"{', '.join(idle)} was decided when the artifact was compiled, and cannot be given with "
            "--artifact.",
            hint="`kdbench compile` takes it.",
        )
    parcel.refuse_untrusted([str(folder) for folder in folders], trusted=trust_code)
    target = output_path(output, profile, writing=writing)
    parcels = tuple(map(parcel.open_parcel, folders))
    wanted = {name: asked[name] for name in ("backends", "precisions", "batches", "scenarios")}
    threads = () if asked["threads"] is None else (asked["threads"],)
    plan = selection.adopted(
        _observed(profile, **{**asked, **dict.fromkeys(wanted)}),
        parcels,
        asked["devices"],
        threads=threads,
        **wanted,
    )
    return Request(
        student=parcels[0].student,
        profile=plan,
        devices=asked["devices"],
        budget_s=asked["budget"],
        output=target,
        argv=tuple(sys.argv[1:]),
        plugins=plugins(),
        parcels=parcels,
    )


def plugins() -> tuple[str, ...] | None:
    """Give the plugins that `KDBENCH_PLUGINS` restricts kdbench to, or None for all.

    The variable holds names separated by commas; where it is empty, no plugin is looked at.
    """
    names = os.environ.get("KDBENCH_PLUGINS")
    return None if names is None else tuple(name.strip() for name in names.split(",") if name.strip())


@contextmanager
def hidden_plugins_told() -> Iterator[None]:
    """Say of a backend that is not there that `KDBENCH_PLUGINS` may hide it, where it is set."""
    try:
        yield
    except (BackendUnavailable, UnknownBackend) as fault:
        if (names := plugins()) is not None:
            seen = f"only {', '.join(names)}" if names else "no plugin"
            fault.hint = f"KDBENCH_PLUGINS is set, and lets kdbench see {seen}. {fault.hint}".rstrip()
        raise


def journal_to_finish(path: Path) -> Path:
    """Give the result file that a run will write once it is resumed from `path`, one name or the other.

    Raises UsageError where there is nothing to finish, or where the result would overwrite a file.
    """
    if not path.name:
        raise UsageError(f"{path} is not a file.", hint="Pass the .journal of a run that did not end.")
    output = path.with_name(path.name.removesuffix(results.JOURNAL_SUFFIX))
    if not os.path.lexists(output):
        return output
    if not (kept := journal.journal_path(output)).exists():
        raise UsageError(
            f"There is no journal {kept}, so nothing is left to finish.",
            hint="A finished result is shown by `kdbench show`.",
        )
    raise UsageError(f"{output} exists, and no result is overwritten.", hint="Move it away, then resume.")


def _observed(profile: str, **asked: Any) -> Profile:
    """Resolve a profile, and refuse an observer that is not there before anything is started."""
    plan = resolved(profile=profile, **asked)
    observers.chosen(plan.observe.observers)
    return plan


def resolved(*, profile: str, **asked: Any) -> Profile:
    """Give a profile with what the options of a command replace in it; one that it lacks replaces nothing."""
    limits = {phase: seconds for one in asked["timeouts"] for phase, seconds in one.items()}
    return resolve(
        load(profile),
        student=asked["student"],
        precisions=asked["precisions"] or None,
        batches=asked["batches"] or None,
        scenarios=asked["scenarios"] or None,
        threads=asked["threads"],
        boundary=asked["boundary"],
        blocks=asked.get("blocks"),
        max_drop=asked.get("max_drop"),
        with_teacher=asked.get("with_teacher") or None,
        allow_fallback=asked.get("allow_fallback") or None,
        observers=asked.get("observers") or None,
        limits=limits,
    )


def options_by_backend(settings: tuple[tuple[str, str, str], ...]) -> Mapping[str, Mapping[str, str]]:
    """Sort the settings by backend; of one that is given twice the last holds."""
    options: dict[str, dict[str, str]] = {}
    for backend, key, value in settings:
        options.setdefault(backend, {})[key] = value
    return options


def output_path(output: Path | None, profile: str, *, writing: bool) -> Path:
    """Decide where the result goes, and refuse a place that will not take it before anything runs."""
    path = results.default_path(None, profile, datetime.now(UTC)) if output is None else output
    if not writing:
        return path
    try:
        if os.path.lexists(path):
            raise UsageError(f"{path} exists, and no result is overwritten.", hint="Choose another --output.")
        if (unfinished := journal.journal_path(path)).exists():
            raise UsageError(
                f"{path} belongs to a run that did not end.",
                hint=f"Finish it with --resume {unfinished}, or choose another --output.",
            )
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as exc:
        raise results.unwritable(path, exc) from exc
