"""What `kdbench run` asks of `bench`, put together from profile and options."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdbench import journal, results
from kdbench.bench import Request
from kdbench.errors import UsageError
from kdbench.profile import Profile, load, resolve
from kdbench.student import open_student


def build(*, writing: bool, profile: str, output: Path | None, **asked: Any) -> Request:
    """Turn the options of `kdbench run` into what `bench` takes.

    Everything that can be refused before a backend is started is refused here, as a KdbenchError.
    writing: whether a result is going to be written; a dry run may name a file that exists.
    """
    if asked["blocks"] and asked["budget"]:
        raise UsageError(
            "--blocks and --budget exclude each other.", hint="Give the one that matters to you."
        )
    plan = _resolved(profile, **asked)
    target = _output(output, plan.name, writing=writing)
    return Request(
        student=open_student(plan.plan.student),
        profile=plan,
        backends=asked["backends"],
        devices=asked["devices"],
        options=_options(asked["settings"]),
        budget_s=asked["budget"],
        output=target,
        argv=tuple(sys.argv[1:]),
        plugins=plugins(),
    )


def plugins() -> tuple[str, ...] | None:
    """Give the plugins that `KDBENCH_PLUGINS` restricts kdbench to, or None for all.

    The variable holds names separated by commas; where it is empty, no plugin is looked at.
    """
    names = os.environ.get("KDBENCH_PLUGINS")
    return None if names is None else tuple(name.strip() for name in names.split(",") if name.strip())


def _resolved(name: str, **asked: Any) -> Profile:
    limits = {phase: seconds for one in asked["timeouts"] for phase, seconds in one.items()}
    return resolve(
        load(name),
        student=asked["student"],
        precisions=asked["precisions"] or None,
        batches=asked["batches"] or None,
        scenarios=asked["scenarios"] or None,
        threads=asked["threads"],
        blocks=asked["blocks"],
        max_drop=asked["max_drop"],
        limits=limits,
    )


def _options(settings: tuple[tuple[str, str, str], ...]) -> Mapping[str, Mapping[str, str]]:
    """Sort the settings by backend; of one that is given twice the last holds."""
    options: dict[str, dict[str, str]] = {}
    for backend, key, value in settings:
        options.setdefault(backend, {})[key] = value
    return options


def _output(output: Path | None, profile: str, *, writing: bool) -> Path:
    """Decide where the result goes, and refuse a place that will not take it before anything runs."""
    path = results.default_path(None, profile, datetime.now(UTC)) if output is None else output
    if not writing:
        return path
    if path.exists():
        raise UsageError(f"{path} exists, and no result is overwritten.", hint="Choose another --output.")
    if (unfinished := journal.journal_path(path)).exists():
        raise UsageError(
            f"{path} belongs to a run that did not end.",
            hint=f"Finish it with --resume {unfinished}, or choose another --output.",
        )
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as exc:
        raise results.unwritable(path, exc) from exc
