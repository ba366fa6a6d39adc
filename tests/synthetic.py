"""Results that never happened: known truths in the noise of a shared machine, always the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random

from msgspec.structs import replace

from kdbench.records import (
    AccuracyRecord,
    BackendRecord,
    CellRecord,
    FirstOutput,
    MemoryRecord,
    PlacementRecord,
    Result,
    Run,
    Samples,
    SideRecord,
    Slice,
    Stretch,
    Subject,
    Trial,
    Window,
)
from kdbench.spec import Cell

IMAGES = 899
SLICE_NS = 100_000_000


def cell(backend: str, **key) -> Cell:
    """Give a cell: fp32 on the CPU at batch 1, latency, unless told otherwise."""
    plain = {"device": "cpu", "precision": "fp32", "batch": 1, "scenario": "latency"}
    depth = "auto" if key.get("scenario") == "throughput" else 1
    return Cell(backend=backend, **{**plain, "depth": depth, **key})


def accuracy(lost: int = 0, gained: int = 0, flips: int = 0, reason: str = "") -> AccuracyRecord:
    """Give a record in which the reference labels 874 of 899 images rightly; none where there is a reason."""
    right = 874
    return AccuracyRecord(
        images=IMAGES,
        correct=None if reason else right - lost + gained,
        reason=reason,
        reference_correct=None if reason else right,
        lost=lost,
        gained=gained,
        flips=flips,
        disagreements=flips,
        deviation=2e-6,
        tolerance=1e-3,
    )


def record(key: Cell, **facts) -> CellRecord:
    """Give a measured cell at the reference's accuracy, unless told otherwise."""
    return CellRecord(cell=key, **{"status": "measured", "accuracy": accuracy(), **facts})


def a_slice(cell: int, median_ns: float, **where) -> Slice:
    """Give one slice around a median: quantiles 2 % apart, nothing to complain about."""
    return Slice(
        **{
            "cell": cell,
            "block": 0,
            "started_ns": 0,
            "duration_ns": SLICE_NS,
            "calls": max(5, round(SLICE_NS / median_ns)),
            "median_ns": median_ns,
            "p10_ns": median_ns * 0.98,
            "p25_ns": median_ns * 0.99,
            "p75_ns": median_ns * 1.01,
            "min_ns": round(median_ns * 0.97),
            "max_ns": round(median_ns * 1.5),
            "mean_ns": median_ns * 1.01,
            "cpu_ns": SLICE_NS,
            **where,
        }
    )


def slices(
    truth_ns: Mapping[int, float],
    *,
    blocks: int = 3,
    rounds: int = 8,
    seed: int = 1,
    block_sd: float = 0.01,
    jump: float = 0.12,
    cohorts: Sequence[Sequence[int]] = (),
) -> tuple[Slice, ...]:
    """Visit cells of known medians (by index, in ns) in rounds of blocks on a machine whose speed wanders.

    All cells of a round share the machine's speed, a random walk; each has its own deviation in each block
    (`block_sd`, what no block can average out); one visit in ten meets a sudden jump.
    """
    random = Random(seed)
    found: list[Slice] = []
    speed, now = 0.0, 0
    for block in range(blocks):
        for cohort, members in enumerate(cohorts or [tuple(truth_ns)]):
            own = {index: random.gauss(0, block_sd) for index in members}
            for turn in range(rounds):
                speed = 0.8 * speed + random.gauss(0, 0.04)
                order = members if turn % 2 == 0 else members[::-1]
                for position, index in enumerate(order):
                    noise = random.gauss(0, 0.003) + jump * (random.random() < 0.1)
                    median = truth_ns[index] * math.exp(speed + own[index] + noise)
                    where = {"block": block, "cohort": cohort, "round": turn, "position": position}
                    found.append(a_slice(index, median, started_ns=now, **where))
                    now += SLICE_NS
    return tuple(found)


def windows(
    truth_per_s: Mapping[int, float],
    *,
    blocks: int = 3,
    rounds: int = 1,
    depth: int = 2,
    seed: int = 2,
    block_sd: float = 0.01,
) -> tuple[Window, ...]:
    """Fill windows of a second at known rates (by cell index, images per second)."""
    random = Random(seed)
    found: list[Window] = []
    for block in range(blocks):
        for turn in range(rounds):
            speed = random.gauss(0, 0.03)
            for index, rate in truth_per_s.items():
                images = round(rate * math.exp(speed + random.gauss(0, block_sd)))
                where = {"block": block, "round": turn, "started_ns": len(found) * 10**9}
                found.append(Window(cell=index, depth=depth, duration_ns=10**9, images=images, **where))
    return tuple(found)


def samples(index: int, median_ns: float, *, blocks: int = 3, calls: int = 800, seed: int = 3, **kind):
    """Draw raw samples around a median, with a tail to the right."""
    random = Random(f"{seed} {index}")
    return tuple(
        Samples(
            cell=index,
            block=block,
            calls=calls,
            values_ns=tuple(round(median_ns * random.lognormvariate(0, 0.05)) for _ in range(calls)),
            **kind,
        )
        for block in range(blocks)
    )


def stretch(index: int, *, seconds: float = 10.0, calls: int = 700) -> Stretch:
    """Give the uninterrupted stretch that samples of the kind `tail` come from."""
    return Stretch(cell=index, started_ns=0, duration_ns=round(seconds * 1e9), calls=calls, step_s=1.0)


SUBJECT = Subject(
    student="digits-2x5",
    student_sha256="5" * 64,
    task="classification",
    classes=tuple("0123456789"),
    parameters=23_418,
    macs=410_000,
    data="scikit-learn digits",
    images=IMAGES,
    teacher="digits-wide",
    teacher_parameters=1_203_146,
)

ENVIRONMENT = {
    "os": {"system": "Linux", "distribution": "Debian GNU/Linux 12 (bookworm)", "container": None},
    "cpu": {
        "model": "AMD EPYC 9R14",
        "logical": 2,
        "physical": 2,
        "virtual": True,
        "governor": None,
        "usable": [0, 1],
        "quota": None,
    },
    "memory": {"total_bytes": 25_276_510_208},
    "load_average": [0.31, 0.2, 0.1],
    "clock": {"reading_ns": 52.0},
    "power": {"on_battery": None},
}


def result(cells: Sequence[CellRecord], **parts) -> Result:
    """Give a result of these cells; `max_drop` is the profile's."""
    profile = {"name": "quick", "latency": {"blocks": 3}}
    profile["accuracy"] = {"max_drop": parts.pop("max_drop", "resolution")}
    run = Run(
        id="7f3c",
        started_utc="2026-03-02T10:15:00Z",
        finished_utc="2026-03-02T10:16:02Z",
        status="complete",
        kdbench="0.1.0",
        profile=profile,
    )
    return Result(
        **{"run": run, "subject": SUBJECT, "environment": ENVIRONMENT, "cells": tuple(cells), **parts}
    )


def measured() -> Result:
    """Give a run: four backends, two batch sizes, both scenarios, two precisions, and what went wrong."""
    names = {
        ("onnxruntime", "fp32", ""): 1.0,
        ("openvino", "fp32", ""): 1.04,
        ("openvino", "bf16", ""): 0.78,
        ("torch-cpu", "fp32", ""): 5.3,
        ("torch-cpu", "fp32", "mode=compile"): 3.1,
        ("numpy", "fp32", ""): 14.0,
    }
    cells: list[CellRecord] = []
    latency_ns: dict[int, float] = {}
    rates_per_s: dict[int, float] = {}
    for batch, alone_ns in ((1, 62_000.0), (32, 1_310_000.0)):
        for scenario in ("latency", "throughput"):
            for (backend, precision, variant), factor in names.items():
                index = len(cells)
                key = cell(backend, precision=precision, variant=variant, batch=batch, scenario=scenario)
                cells.append(_found(key, factor))
                if scenario == "latency":
                    latency_ns[index] = factor * alone_ns
                else:
                    rates_per_s[index] = 1.9e9 * batch / alone_ns / factor
    for batch in (1, 32):
        key = cell("numpy", precision="bf16", batch=batch)
        cells.append(_lost(key, "unsupported", "plan", "NumPy does not offer bf16; it has fp32."))
    why = "The worker died of signal 11 (SIGSEGV) in the second block."
    key = cell("torch-cpu", variant="mode=script")
    cells.append(
        _lost(
            key, "failed", "run", why, fix="Report it with the log.", log="results/quick.logs/torch-cpu.log"
        )
    )
    pooled = [
        one
        for index, ns in latency_ns.items()
        for one in samples(index, 1.05 * ns, calls=40 if ns > 1.5e7 else 120)
    ]
    return result(
        cells,
        backends=BACKENDS,
        slices=slices(latency_ns),
        windows=windows(rates_per_s),
        samples=tuple(pooled),
        stages=(("probe", 1.2), ("compile", 4.8), ("latency blocks", 31.0)),
    )


def _found(key: Cell, factor: float) -> CellRecord:
    rough = key.precision == "bf16"
    return record(
        key,
        accuracy=accuracy(lost=19, gained=1, flips=21) if rough else accuracy(),
        placement=PlacementRecord(requested="cpu", device="cpu", precision=key.precision, threads=2),
        first_output=FirstOutput(
            load_ns=(210_000_000, 190_000_000, 180_000_000),
            call_ns=(900_000, 700_000, 800_000),
            cold_ns=round(310_000_000 * factor),
            warm_ns=round(140_000_000 * factor),
        ),
        memory=MemoryRecord(peak_bytes=round(150e6 + 40e6 * factor), base_bytes=60_000_000),
        warm_up_settled=factor < 14,
    )


def _lost(key: Cell, status, phase: str, reason: str, **more) -> CellRecord:
    return CellRecord(cell=key, status=status, phase=phase, reason=reason, **more)


BACKENDS = (
    BackendRecord(
        name="onnxruntime",
        status="available",
        title="ONNX Runtime",
        distribution="kdbench-onnxruntime",
        version="0.1.0",
        runtime_version="1.31.1",
        devices=(("cpu", "AMD EPYC"),),
    ),
    BackendRecord(
        name="openvino",
        status="available",
        title="OpenVINO",
        distribution="kdbench-openvino",
        version="0.1.0",
        runtime_version="2026.4.1",
        devices=(("cpu", "AMD EPYC"), ("gpu.0", "Intel Arc A770")),
    ),
    BackendRecord(
        name="haste",
        status="failed",
        title="Haste",
        distribution="haste-kdbench",
        version="3.0",
        phase="probe",
        reason="The worker ended with exit code 3 before it answered.",
        log="results/quick.logs/haste.log",
    ),
    BackendRecord(
        name="tensorrt",
        status="unavailable",
        title="NVIDIA TensorRT",
        reason="No NVIDIA driver was found on this machine.",
        fix="Install the NVIDIA driver, then: pip install 'kdbench-tensorrt[runtime]'",
    ),
)


def run_of(result: Result, name: str, day: int = 2, **parts) -> Result:
    """Give a result as that of another run, with an id and a day of its own."""
    return replace(
        result, run=replace(result.run, id=name, started_utc=f"2026-03-{day:02}T10:15:00Z"), **parts
    )


def trial(
    a_ns: float = 100_000.0,
    b_ns: float = 100_000.0,
    *,
    blocks: int = 10,
    seed: int = 1,
    a="onnxruntime",
    b="",
    **parts,
) -> Result:
    """Give a trial of two sides of known medians, alternated on a machine whose speed wanders."""
    placed = PlacementRecord(requested="cpu", device="cpu", precision="fp32", threads=1)
    key = cell(a, threads=1, side="a")
    cells = [record(key, placement=placed), record(cell(b or a, threads=1, side="b"), placement=placed)]
    sides = (SideRecord(side="a", label="A"), SideRecord(side="b", label="B"))
    return result(
        cells,
        slices=parts.pop("slices", None)
        or slices({0: a_ns, 1: b_ns}, blocks=blocks, seed=seed, block_sd=0.004),
        trial=Trial(sides=sides, budget_s=30.0, block_s=2.0),
        **parts,
    )
