from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from kdbench import log
from kdbench.errors import BackendError, ContractError, PhaseTimeout, Unsupported
from kdbench.ledger import Ledger
from kdbench.records import ArtifactRecord
from tests import synthetic


@pytest.fixture
def ledger(tmp_path):
    """Give a ledger of three cells, none of them measured yet."""
    return Ledger([synthetic.record(synthetic.cell(name)) for name in "abc"], tmp_path / "r.logs")


@pytest.fixture
def worker(tmp_path):
    """Give what a ledger needs to know of a worker: its log."""
    log = tmp_path / "a-cpu-fp32-latency-block1.log"
    log.write_bytes(b"Segmentation fault\n")
    return SimpleNamespace(log=log)


def test_changes_are_told_once_with_the_latest_facts(ledger):
    ledger.update(2, reason="one")
    ledger.update(0, reason="two")
    ledger.update(2, reason="three")
    assert {index: one.reason for index, one in ledger.changes().items()} == {0: "two", 2: "three"}
    assert ledger.changes() == {}
    ledger.update(1, reason="four")
    assert list(ledger.changes()) == [1]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (BackendError("It broke.", hint="Mend it.", phase="load"), "failed"),
        (ContractError("It broke.", hint="Mend it.", phase="load"), "failed"),
        (PhaseTimeout("It broke.", hint="Mend it.", phase="load"), "timed out"),
        (Unsupported("It broke.", hint="Mend it.", phase="load"), "unsupported"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else one,
)
def test_the_kind_of_fault_decides_the_status(ledger, worker, fault, status):
    ledger.fail([0, 2], fault, worker)
    for index in (0, 2):
        record = ledger.records[index]
        assert (record.status, record.phase, record.reason, record.fix) == (
            status,
            "load",
            "It broke.",
            "Mend it.",
        )
        assert not ledger.alive(index)
    assert ledger.alive(1)
    assert list(ledger.changes()) == [0, 2]


def test_the_log_of_a_failed_worker_is_kept_beside_the_result(ledger, worker, tmp_path):
    ledger.fail([0], BackendError("It broke.", phase="run"), worker)
    kept = tmp_path / "r.logs" / worker.log.name
    assert ledger.records[0].log == str(kept)
    assert kept.read_text().startswith("Segmentation fault\n")


def test_what_a_backend_says_that_it_cannot_do_needs_no_log(ledger, worker, tmp_path):
    ledger.fail([0], Unsupported("Not that.", phase="compile"), worker)
    assert ledger.records[0].log == ""
    assert not (tmp_path / "r.logs").exists()


def test_of_a_long_log_the_end_is_kept(ledger, worker):
    worker.log.write_bytes(b"begin" + b"x" * log.KEPT_BYTES + b"end")
    ledger.fail([0], BackendError("It broke.", phase="run"), worker)
    kept = Path(ledger.records[0].log).read_bytes()
    assert b"begin" not in kept
    assert b"xend" in kept


def test_a_log_that_cannot_be_kept_costs_no_result(worker, tmp_path):
    (tmp_path / "file").write_text("")
    ledger = Ledger([synthetic.record(synthetic.cell("a"))], tmp_path / "file" / "logs")
    ledger.fail([0], BackendError("It broke.", phase="run"), worker)
    assert (ledger.records[0].status, ledger.records[0].log) == ("failed", "")


def test_an_invalid_cell_is_still_timed(ledger):
    ledger.update(0, status="invalid")
    assert ledger.alive(0)


def test_the_first_output_is_cold_in_the_first_block_and_warm_in_the_later_ones(ledger):
    ledger.update(0, artifact=ArtifactRecord(key="k", bytes=1, compile_s=2.0, cached=False))
    ledger.first_output(0, load_ns=500, call_ns=40)
    first = ledger.records[0].first_output
    assert (first.cold_ns, first.warm_ns) == (2_000_000_540, None)
    for load_ns, call_ns in ((300, 10), (100, 20), (200, 30)):
        ledger.first_output(0, load_ns, call_ns)
    last = ledger.records[0].first_output
    assert (last.load_ns, last.call_ns) == ((500, 300, 100, 200), (40, 10, 20, 30))
    assert (last.cold_ns, last.warm_ns) == (2_000_000_540, 230)


def test_what_is_alive_and_was_never_measured_has_failed(ledger, worker):
    ledger.fail([2], PhaseTimeout("Too slow.", phase="load"), worker)
    ledger.fail_unmeasured({0})
    assert [one.status for one in ledger.records] == ["measured", "failed", "timed out"]
    assert ledger.records[1].reason == "No block was finished with it."
