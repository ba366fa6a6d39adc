"""`kdbench doctor`: what this machine is, what disturbs measurements on it, and what it can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli import options
from kdbench.errors import Interrupted, UsageError
from kdbench.sections import Threads

if TYPE_CHECKING:
    from kdbench.doctor import Facts, Finding
    from kdbench.records import BackendRecord, Floor
    from kdbench.request import Request
    from kdbench.selftest import SelfTest

OF_SELFTEST = {
    "student": "STUDENT",
    "backends": "--backend",
    "threads": "--threads",
    "batches": "--batch",
    "budget": "--budget",
}

LOOK_S = 1.0
"""How long the machine is watched: long enough to see who computes, in ticks of 10 ms."""


@click.command(short_help="Tell what disturbs measurements here, and what this machine can tell apart.")
@click.option(
    "--selftest",
    is_flag=True,
    help="Run each backend against itself, and keep what that tells of the machine.",
)
@options.student
@options.backends("Self-test these only. [default: all]")
@options.several(
    "--threads",
    "threads",
    kind=Threads,
    metavar="1,cores",
    text="Thread counts of the self-test. [default: both]",
)
@options.batches("Batch sizes of the self-test. [default: 1]", metavar="1,8")
@options.budget("About how long the self-test may take. [default: 2m]", metavar="2m")
@click.option("--strict", is_flag=True, help="Exit with 1 where something is bad.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON and nothing else.")
@click.pass_context
def command(ctx: click.Context, /, *, selftest: bool, strict: bool, as_json: bool, **asked: Any) -> None:
    """Tell what this machine is, which backends work, what disturbs measurements and how to mend each.

    With --selftest each backend is also run against itself, alternated slice by slice, with one thread and
    with all cores, several times in turn. Nothing differs, so what comes out is error: the smallest change
    that `kdbench ab` and two separate runs can tell from none here. It is kept, adds up over repeated
    self-tests, and `kdbench compare` uses it.

    The exit code is 0 whatever is found, unless --strict is given: then it is 1 where something is bad. It is
    2 for bad input and 3 if a backend named with -b cannot run here.
    """
    if not selftest and any(asked.values()):
        given = ", ".join(OF_SELFTEST[name] for name, value in asked.items() if value)
        raise UsageError(f"Only a self-test takes {given}.", hint="Give --selftest with it.")
    if "vendor" in asked["threads"]:
        raise UsageError("A self-test must know its number of threads.", hint="Give --threads 1,cores.")
    from kdbench.cli.request import hidden_plugins_told

    facts, findings = _looked(quiet=as_json)
    if not as_json:
        _show(facts, findings)
    with hidden_plugins_told():
        tested = _kept(facts, quiet=as_json, **asked) if selftest else None
    _tell(facts, findings, tested, as_json=as_json)
    bad = any(one.outcome == "bad" for one in findings) or bool(tested and tested.failures)
    ctx.exit(int(strict and bad))


def _looked(*, quiet: bool) -> tuple[Facts, tuple[Finding, ...]]:
    """Watch the machine while nothing of ours runs, then ask the backends."""
    import time

    from kdbench import activity, bench, environment, floors, nvidia, surroundings
    from kdbench.cli.request import plugins
    from kdbench.cli.run import progress
    from kdbench.doctor import Facts, examine

    before = activity.sample()
    time.sleep(LOOK_S)
    now = activity.between(before, activity.sample())
    records = None
    with progress(quiet=quiet) as report, suppress(UsageError):  # the cache, which is a finding of its own
        records = bench.survey(probe=True, report=report, plugins=plugins())
    vendors = {name for one in records or () for name in one.versions}
    facts = Facts(
        environment=environment.host(vendors, gpus=nvidia.facts()),
        activity=now,
        backends=records,
        results=surroundings.results_place(),
        cache=surroundings.cache_place(),
        rivals=surroundings.rivals(vendors),
        floors_fault=floors.opened().fault,
    )
    return facts, examine(facts)


def _show(facts: Facts, findings: Sequence[Finding]) -> None:
    from kdbench import render
    from kdbench.render import doctor

    console = render.console(stderr=False)
    doctor.machine(console, facts)
    doctor.backends(console, facts.backends or ())
    doctor.findings(console, findings)


def _kept(facts: Facts, **asked: Any) -> SelfTest:
    """Make the self-test; of one that is interrupted the finished sittings are kept."""
    try:
        return _tested(facts, **asked)
    except Interrupted:
        told = "Interrupted. The sittings that were finished are kept."
        raise Interrupted(told, hint="`kdbench doctor` shows what they tell.") from None


def _tested(facts: Facts, *, quiet: bool, budget: float | None, **asked: Any) -> SelfTest:
    import tempfile

    from kdbench import environment, floors, selftest, trial
    from kdbench.cli.run import progress

    cores = len(environment.usable_cores())
    with tempfile.TemporaryDirectory(prefix="kdbench-") as folder:
        requests = _requests(facts.backends or (), Path(folder), cores, quiet=quiet, **asked)
        taken = 0
        with progress(quiet=quiet) as report:

            def measure(request: Request) -> Any:
                nonlocal taken
                taken += 1
                output = Path(folder, f"{taken}.json")
                both = trial.TrialRequest(
                    a=request, b=request, output=output, budget_s=None, blocks=selftest.BLOCKS
                )
                return trial.run(both, report)

            return selftest.run(
                requests,
                measure,
                budget_s=budget or selftest.BUDGET_S,
                cores=cores,
                keep=floors.add,
                tell=lambda text: None if quiet else click.echo(text, err=True),
            )


def _requests(
    records: Sequence[BackendRecord],
    folder: Path,
    cores: int,
    *,
    quiet: bool,
    student: str | None,
    backends: tuple[str, ...],
    threads: tuple[int | str, ...],
    batches: tuple[int, ...],
) -> list[Request]:
    """Make a request for each backend and thread count; backends take turns, whatever the threads."""
    from dataclasses import replace

    from kdbench.cli.request import build

    names = _working(records, backends)
    counts = threads or ((1, "cores") if cores > 1 else (1,))
    made = [
        build(
            writing=True,
            quiet=quiet,
            profile="ab",
            output=folder / "selftest.json",
            student=student,
            evaluation=None,
            weights="trained",
            backends=(),
            devices=(),
            precisions=(),
            batches=batches,
            scenarios=(),
            threads=number,
            settings=(),
            blocks=None,
            budget=None,
            max_drop=None,
            with_teacher=False,
            allow_fallback=False,
            timeouts=(),
        )
        for number in counts
    ]
    return [replace(one, backends=(name,)) for one in made for name in names]


def _working(records: Sequence[BackendRecord], named: Sequence[str]) -> list[str]:
    """Give the backends to test; raises for one that was asked for and does not work here."""
    from kdbench.catalogue import explain
    from kdbench.errors import BackendUnavailable

    by_name = {one.name: one for one in records}
    for name in named:
        if name not in by_name:
            raise explain(name, list(by_name))
        if by_name[name].status != "available":
            raise BackendUnavailable(
                f"{name} cannot run here: {by_name[name].reason}", hint=by_name[name].fix
            )
    found = list(named) or [one.name for one in records if one.status == "available"]
    if not found:
        raise BackendUnavailable(
            "No backend works here, so there is nothing to test.",
            hint="`kdbench backends` says what each one needs.",
        )
    return found


def _tell(facts: Facts, findings: Sequence[Finding], tested: SelfTest | None, *, as_json: bool) -> None:
    """Show what can be told apart, or everything as JSON."""
    from kdbench import floors

    known = floors.load()
    if as_json:
        _print(facts, findings, known, tested)
        return
    from kdbench import render
    from kdbench.render import doctor

    console = render.console(stderr=False)
    alarms = []
    if tested is not None:
        alarms = [floors.alarms(tested.sittings, margin) for margin in (0.0, doctor.MARGIN)]
    doctor.detectable(console, known, alarms if tested and tested.sittings else ())
    if tested is not None:
        doctor.failures(console, [(one.what, one.reason) for one in tested.failures])


def _print(
    facts: Facts, findings: Sequence[Finding], known: Sequence[Floor], tested: SelfTest | None
) -> None:
    import msgspec

    from kdbench import strict

    told = {
        "machine": facts.environment,
        "activity": facts.activity,
        "backends": [strict.plain(one) for one in facts.backends or ()],
        "findings": findings,
        "floors": known,
        "selftest": tested,
    }
    click.echo(msgspec.json.encode(told))
