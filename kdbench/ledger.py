"""What became of each cell while a run goes on; the changes since the last journal entry are kept apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from msgspec import structs

from kdbench import log
from kdbench.errors import BackendError, PhaseTimeout, Unsupported
from kdbench.process import Worker
from kdbench.records import CellRecord, FirstOutput, Status


class Ledger:
    """The records of all cells; `logs` is where logs of failed workers go, made when the first one does.

    depths: of cells whose best depth is known. stretched: cells whose tail was measured before this resume.
    """

    def __init__(self, records: Sequence[CellRecord], logs: Path) -> None:
        self.records = list(records)
        self.depths: dict[int, int] = {}
        self.stretched: set[int] = set()
        self._logs = logs
        self._changed: set[int] = set()

    def update(self, index: int, **changes: object) -> None:
        """Put new facts into a cell's record."""
        self.records[index] = structs.replace(self.records[index], **changes)
        self._changed.add(index)

    def add(self, record: CellRecord) -> int:
        """Take up a cell that was planned on the way, and give its index; the journal is told elsewhere."""
        self.records.append(record)
        return len(self.records) - 1

    def alive(self, index: int) -> bool:
        """Tell whether a cell is still to be measured: neither failed nor unsupported."""
        return self.records[index].status in ("measured", "invalid")

    def fail(self, indices: Iterable[int], fault: BackendError, worker: Worker | None) -> None:
        """Mark cells as failed, unsupported or timed out, in which phase and why."""
        status: Status = "failed"
        if isinstance(fault, Unsupported):
            status = "unsupported"
        elif isinstance(fault, PhaseTimeout):
            status = "timed out"
        kept = self.keep_log(worker, fault) if worker and status != "unsupported" else ""
        for index in indices:
            self.update(
                index, status=status, phase=fault.phase, reason=fault.message, fix=fault.hint, log=kept
            )

    def keep_log(self, worker: Worker, fault: BackendError) -> str:
        """Keep the log of a worker that failed; give the path of the copy, or nothing."""
        return log.keep(worker.log, self._logs, fault)

    def first_output(self, index: int, load_ns: int, call_ns: int) -> None:
        """Add one block's times to the first output; cold is the first block's, warm the later ones'."""
        record = self.records[index]
        before = record.first_output or FirstOutput()
        loads, calls = (*before.load_ns, load_ns), (*before.call_ns, call_ns)
        later = [load + call for load, call in zip(loads[1:], calls[1:], strict=True)]
        brought = record.artifact is not None and record.artifact.origin == "elsewhere"
        compile_s = record.artifact.compile_s if record.artifact else 0.0
        self.update(
            index,
            first_output=FirstOutput(
                load_ns=loads,
                call_ns=calls,
                cold_ns=None if brought else round(compile_s * 1e9) + loads[0] + calls[0],
                reason="compiled elsewhere" if brought else "",
                warm_ns=round(median(later)) if later else None,
            ),
        )

    def fail_unmeasured(self, measured: Iterable[int]) -> None:
        """Mark as failed what is alive and was never measured: its worker died for another cell each time."""
        for index in set(range(len(self.records))) - set(measured):
            if self.alive(index):
                fault = BackendError("No block was finished with it.", phase="run")
                self.fail([index], fault, None)

    def forget_rehearsals(self) -> None:
        """Keep of each cell what the first, cold rehearsal told of its first output, and the verification.

        Blocks then count from there, and whether warm-up settled is asked of them alone.
        """
        for index, record in enumerate(self.records):
            first = record.first_output
            if first is not None:
                cold = structs.replace(
                    first, load_ns=first.load_ns[:1], call_ns=first.call_ns[:1], warm_ns=None
                )
                self.update(index, first_output=cold)
            self.update(index, warm_up_settled=None)

    def changes(self) -> dict[int, CellRecord]:
        """Give the records that changed since this was asked last."""
        changed = {index: self.records[index] for index in sorted(self._changed)}
        self._changed.clear()
        return changed
