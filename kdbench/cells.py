"""The cells of what is asked of a backend, and the job that measures those of them that can be measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kdbench.environment import versions
from kdbench.job import Job
from kdbench.records import CellRecord
from kdbench.request import Request, homeless
from kdbench.spec import Available, Cell, Device, Student, Target, variant
from kdbench.support import Lack, lack

if TYPE_CHECKING:
    from kdbench.roster import Found


def job_of(
    request: Request,
    one: Found,
    device: Device,
    target: Target,
    network: Student,
    working: Sequence[Found],
    records: list[CellRecord],
) -> Iterator[Job]:
    """Give the job of a target, if there is one, and add the records of all its cells."""
    assert one.info is not None
    assert one.source is not None
    assert isinstance(one.answer, Available)
    offers = [other.name for other in working if other.info and target.precision in other.info.precisions]
    cells: dict[int, int] = {}
    for cell in _cells(request, one, target, network):
        lacking = lack(one.info, device, network, target, cell.batch, offers)
        if lacking is None:
            cells[cell.batch] = len(records)
        records.append(_record(cell, lacking))
    if cells:
        yield Job(
            student=network,
            source=one.source,
            info=one.info,
            runtime_version=one.answer.version,
            device=device,
            target=replace(target, batch_sizes=tuple(cells)),
            cells=cells,
            versions=one.versions if one.versions is not None else versions(one.info.distributions),
            python=one.python,
            side=request.side,
        )


def _cells(request: Request, one: Found, target: Target, network: Student) -> list[Cell]:
    """Give the keys of a target's cells, one per batch size."""
    declared, profile = one.info.options if one.info else (), request.profile
    return [
        Cell(
            backend=one.name,
            device=target.device,
            precision=target.precision,
            batch=batch,
            scenario=target.scenario,
            depth=1 if target.scenario == "latency" else profile.throughput.depth,
            threads=profile.plan.threads,
            boundary=target.boundary,
            variant=homeless(variant(target.options, declared, dynamic=target.dynamic)),
            network=network.role,
            side=request.side,
        )
        for batch in target.batch_sizes
    ]


def _record(cell: Cell, lacking: Lack | None) -> CellRecord:
    if lacking is None:
        return CellRecord(cell=cell, status="measured")
    return CellRecord(cell=cell, status="unsupported", phase="plan", reason=lacking.reason, fix=lacking.fix)
