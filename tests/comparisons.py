"""Comparisons that never happened, made by hand: what people have to read, in every kind that there is."""

from __future__ import annotations

from kdbench.comparison import (
    Change,
    Comparison,
    Difference,
    Mean,
    Overtaking,
    Report,
    Row,
    Source,
    Unmatched,
)
from kdbench.spec import Cell
from tests.synthetic import cell

BASE = Source(
    label="base",
    file="results/2026-03-01T10-15-00Z-quick.json",
    run="7f3c",
    started_utc="2026-03-01T10:15:00Z",
    host_hash="ab" * 8,
    student="digits-2x5",
    student_sha256="5" * 64,
    kdbench="0.1.0",
)
NEW = Source(
    label="new",
    file="results/2026-03-02T10-15-00Z-quick.json",
    run="81d0",
    started_utc="2026-03-02T10:15:00Z",
    host_hash="ab" * 8,
    student="digits-2x5",
    student_sha256="5" * 64,
    kdbench="0.1.0",
)
FLOOR = "this machine's self-test of 2026-02-27, 6 runs"


def change(metric: str, base: float, new: float, verdict: str = "same", **facts) -> Change:
    """Give a change of a ratio with an interval of 0.9 % either way, unless told otherwise."""
    unit = {"latency": "ns", "throughput": "per_s", "compile": "s", "load": "ns"}.get(metric.split(".")[0])
    unit = unit or {"memory.peak": "bytes", "artifact.bytes": "bytes", "accuracy.top1": "%"}.get(
        metric, "images"
    )
    effect = new / (base or 1)
    told = {"unit": unit, "scale": "ratio", "effect": effect, "margin": 0.03, "blocks": (8, 8)}
    if unit in ("ns", "per_s", "s"):
        p, p_holm = (1e-6, 1e-5) if verdict in ("worse", "better") else (0.2, 0.8)
        told |= {"low": effect * 0.991, "high": effect * 1.009, "p": p, "p_holm": p_holm, "detectable": 0.009}
    if unit == "%":
        told |= {"scale": "points", "effect": new - base, "margin": 0.5, "detectable": 0.44, "blocks": (0, 0)}
    if unit == "images":
        told |= {"scale": "count", "effect": new - base, "margin": 0.0, "blocks": (0, 0)}
    return Change(metric=metric, base=base, new=new, verdict=verdict, **{**told, **facts})


def once(metric: str, base: float, new: float, verdict: str, **facts) -> Change:
    """Give a change that was observed once on each side: no interval, no probability."""
    unknown = dict.fromkeys(("low", "high", "p", "p_holm", "detectable"))
    return change(metric, base, new, verdict, **{**unknown, "blocks": (1, 1), **facts})


def row(key: Cell, *changes: Change, base: Cell | None = None) -> Row:
    """Pair a cell with itself, or with another one."""
    return Row(base=base or key, new=key, changes=changes)


def exact(factor: float = 1.0) -> tuple[Change, ...]:
    """Give what is the same in most comparisons: accuracy, artifact, memory."""
    return (
        change("accuracy.top1", 97.22, 97.22),
        change("accuracy.flips", 0, 0),
        change("artifact.bytes", 96_412, 96_412),
        change("memory.peak", 71e6 * factor, 71e6 * factor * 1.002),
    )


def separate() -> Report:
    """Two files: one regression, one figure that nobody can tell, floors, and a backend that is gone."""
    apart = {"run_sd": 0.016, "run_sd_from": FLOOR}
    rows = []
    for batch, factor in ((1, 1.0), (32, 21.0)):
        ort, vino = (cell(name, batch=batch, threads=1) for name in ("onnxruntime", "openvino"))
        rows += [
            row(
                ort,
                change("latency.p50", 62_100 * factor, 62_400 * factor, normalised=1.001, **apart),
                change("load.time", 182e6, 190e6, detectable=0.06),
                *exact(),
            ),
            row(
                vino,
                change(
                    "latency.p50",
                    60_000 * factor,
                    63_060 * factor,
                    "worse",
                    normalised=1.047,
                    p_holm=0.0004,
                    **apart,
                )
                if batch == 1
                else change("latency.p50", 60_000 * factor, 60_900 * factor, normalised=1.011, **apart),
                *exact(1.4),
            ),
            row(
                cell("torch-cpu", variant="mode=compile", batch=batch, threads=1),
                change(
                    "latency.p50",
                    198_000 * factor,
                    206_000 * factor,
                    "inconclusive",
                    low=0.99,
                    high=1.094,
                    detectable=0.053,
                    normalised=1.02,
                    contended="other processes took 14 % of its CPUs on the new side",
                    settle_s=41.0,
                    command=f"kdbench ab digits-2x5 -b torch-cpu -o mode=compile --batch {batch} --threads 1 "
                    "--budget 41s",
                    **apart,
                ),
                change("load.time", 1.9e9, 2.4e9, "inconclusive", low=0.9, high=1.77, detectable=0.4),
                once("compile.time", 8.1, 8.4, "inconclusive", reason="one observation, which is not judged"),
                *exact(3.1),
            ),
        ]
    gone = Unmatched(cell=cell("numpy", threads=1), only="base", status="measured")
    comparison = Comparison(
        base=BASE,
        new=NEW,
        rows=tuple(rows),
        unmatched=(gone, Unmatched(cell=cell("numpy", batch=32, threads=1), only="base", status="measured")),
        differences=(
            Difference(what="runtime of openvino", base="2026.4.0", new="2026.4.1"),
            Difference(what="governor", base="performance", new="powersave"),
        ),
        means=(Mean(metric="latency.p50", effect=1.021, rows=6),),
        notes=("p99 was withheld on both sides: these runs have too few samples.",),
        verdict="worse",
    )
    return Report(comparisons=(comparison,), exit_code=1)


def trial() -> Report:
    """Two sides of one trial, more streams against fewer: better, and the same accuracy."""
    sides = [
        Source(
            label=label,
            file="results/ab.json",
            run="55aa",
            started_utc="2026-03-02T11:00:00Z",
            student="digits-2x5",
            side=side,
        )
        for side, label in (("a", "openvino num_streams=1"), ("b", "openvino num_streams=2"))
    ]
    keys = [
        cell("openvino", variant=variant, threads=2, side=side)
        for variant, side in (("num_streams=1", "a"), ("num_streams=2", "b"))
    ]
    median = change("latency.p50", 81_200, 74_100, "better", paired=True, blocks=(10, 10), p_holm=1e-6)
    changes = (median, change("latency.p90", 88_000, 87_600, paired=True, blocks=(10, 10)), *exact())
    note = "The verdict holds for these two builds; --rebuild compiles anew in every block."
    comparison = Comparison(
        base=sides[0],
        new=sides[1],
        rows=(Row(base=keys[0], new=keys[1], changes=changes),),
        notes=(note,),
        verdict="better",
    )
    return Report(comparisons=(comparison,))


def across() -> Report:
    """One file across its backends: who wins by much, by little, or perhaps; where one overtakes another."""
    one = {"file": BASE.file, "run": BASE.run, "started_utc": BASE.started_utc, "student": BASE.student}
    rows = []
    for batch, times in {
        1: {"onnxruntime": 62_100, "torch-cpu": 63_200, "openvino": 67_800, "numpy": 903_000},
        32: {"openvino": 1_310_000, "onnxruntime": 1_330_000, "numpy": 19_600_000},
    }.items():
        (winner, best), *others = times.items()
        for name, ns in others:
            verdict = "worse" if ns / best > 1.03 else "same" if name == "torch-cpu" else "inconclusive"
            facts = {"paired": True, "blocks": (3, 3), "detectable": 0.021}
            if verdict == "same":
                facts |= {"p": 1e-4, "p_holm": 0.004}
            own = change("latency.p50", best, ns, verdict, **facts)
            rows.append(row(cell(name, batch=batch), own, base=cell(winner, batch=batch)))
    overtaking = Overtaking(
        scenario="latency",
        first=cell("onnxruntime"),
        second=cell("openvino"),
        below=1,
        above=32,
        about=17.3,
        real=True,
    )
    comparison = Comparison(
        base=Source(label="winner", **one),
        new=Source(label="other", **one),
        across="backend",
        rows=tuple(rows),
        overtakings=(overtaking,),
        verdict="inconclusive",
    )
    return Report(comparisons=(comparison,))


def mismatched(*, allowed: bool = False) -> Report:
    """Files of two students: not comparable, unless that is allowed."""
    why = (
        "The students differ: digits-2x5 (5555555555) and digits-3x5 (6666666666).",
        "The evaluation data differ: 899 and 450 images.",
    )
    rows = separate().comparisons[0].rows[:2] if allowed else ()
    comparison = Comparison(
        base=BASE,
        new=Source(label="new", file="other.json", student="digits-3x5", started_utc="2026-03-02T10:15:00Z"),
        rows=rows,
        mismatches=why,
        allowed=allowed,
        verdict="worse" if allowed else "not comparable",
    )
    return Report(comparisons=(comparison,), exit_code=1 if allowed else 4)


EVIL = "[red]x[/red]\x1b[31m\x07\n‮| ![x](http://evil.example) <img src=x> @all `code` www.evil.example #1"


def hostile() -> Report:
    """Every text that a file can bring along wants to break out."""
    key = cell(EVIL, device=EVIL, variant=EVIL)
    changes = (
        change(
            "latency.p50", 1e6, 1.2e6, "worse", reason=EVIL, contended=EVIL, run_sd=0.02, run_sd_from=EVIL
        ),
        change("latency.p99", 1e6, 1.2e6, "inconclusive", reason=EVIL, command=f"kdbench ab {EVIL}"),
        change(f"latency.{EVIL}", 1e6, 1.2e6, "not comparable", reason=EVIL),
        *exact(),
    )
    sides = [
        Source(label=EVIL, file=EVIL, run=EVIL, started_utc=EVIL, student=EVIL, kdbench=EVIL)
        for _ in range(2)
    ]
    comparison = Comparison(
        base=sides[0],
        new=sides[1],
        rows=(row(key, *changes), row(cell("other"), *exact())),
        unmatched=(Unmatched(cell=key, only="base", status=EVIL),),
        differences=(Difference(what=EVIL, base=EVIL, new=EVIL),),
        mismatches=(EVIL,),
        allowed=True,
        means=(Mean(metric=EVIL, effect=1.0, rows=1),),
        overtakings=(
            Overtaking(
                scenario="latency", first=key, second=cell("b"), below=1, above=8, about=3.0, real=False
            ),
        ),
        notes=(EVIL,),
        verdict="worse",
    )
    return Report(comparisons=(comparison,), exit_code=1)


def several() -> Report:
    """Three files, the first as base."""
    first = separate().comparisons[0]
    later = Source(label="new 2", file="results/2026-03-03T10-15-00Z-quick.json", student="digits-2x5")
    quiet = Comparison(
        base=BASE,
        new=later,
        rows=tuple(one for one in first.rows if all(c.verdict == "same" for c in one.changes)),
    )
    return Report(comparisons=(first, quiet), exit_code=1)
