from __future__ import annotations

from dataclasses import replace

import pytest

from kdbench import capacity
from kdbench.discovery import Source
from kdbench.job import Job
from kdbench.sections import Profile, Throughput
from kdbench.spec import API, BackendInfo, Device, Target

UUID, OTHER = "GPU-1", "GPU-2"
GIB = 2**30
PLAN = Profile(schema=1, name="test")
INFO = BackendInfo(api=API, title="B", devices=("cuda",), precisions=("fp32",), concurrency="pipelined")


@pytest.fixture
def job(paper_student):
    def make(*, uuid=UUID, batches=(1,), scenario="latency", threads=1, info=INFO, **student):
        return Job(
            student=replace(paper_student, **student),
            source=Source("b", "b", "b", "1", ""),
            info=info,
            runtime_version="1",
            device=Device("cuda:0" if uuid else "cpu", "a GPU", uuid=uuid),
            target=Target(device="cuda:0", batch_sizes=batches, scenario=scenario, threads=threads),
            cells={batch: number for number, batch in enumerate(batches)},
            versions={},
        )

    return make


def test_a_gpu_with_room_for_all_has_no_limit(job):
    assert capacity.room([job()] * 4, PLAN, {UUID: 8 * GIB}) == {}


def test_as_many_workers_live_as_fit_into_nine_tenths_of_the_free_memory(job):
    one = capacity.worker_bytes(job(), PLAN)
    assert one == pytest.approx(capacity.CONTEXT_BYTES, rel=0.01)
    for count in (2, 3):
        assert capacity.room([job()] * 6, PLAN, {UUID: int(1.02 * count * one / 0.9)}) == {UUID: count}


def test_the_largest_job_of_a_gpu_counts_for_all_of_it(job):
    large = job(parameters=100_000_000)
    assert capacity.worker_bytes(large, PLAN) - capacity.CONTEXT_BYTES == pytest.approx(1.6e9, rel=0.01)
    assert capacity.room([job()] * 3, PLAN, {UUID: 5 * GIB}) == {}
    assert capacity.room([job(), job(), large], PLAN, {UUID: 5 * GIB}) == {UUID: 2}


def test_one_worker_always_has_room_and_the_job_tells_itself_that_it_does_not_fit(job):
    assert capacity.room([job(), job()], PLAN, {UUID: 1}) == {UUID: 1}


def test_two_jobs_that_both_fit_need_no_limit_of_three(job):
    one = capacity.worker_bytes(job(), PLAN)
    assert capacity.room([job(), job()], PLAN, {UUID: int(2.02 * one / 0.9)}) == {}


def test_each_gpu_has_room_of_its_own_and_the_host_has_none_to_count(job):
    jobs = [job(), job(), job(uuid=OTHER), job(uuid=OTHER), job(uuid="")]
    assert capacity.room(jobs, PLAN, {UUID: GIB, OTHER: 8 * GIB}) == {UUID: 1}
    assert capacity.room(jobs, PLAN, {}) == {}


def test_activations_grow_with_the_largest_batch_and_with_what_is_in_flight(job):
    def beyond(one, plan=PLAN):
        return capacity.worker_bytes(one, plan) - capacity.CONTEXT_BYTES

    single = beyond(job(macs=1 << 30, parameters=0))
    assert single == pytest.approx(4 * (1 << 25), rel=0.01)
    assert beyond(job(macs=1 << 30, parameters=0, batches=(1, 32))) == 32 * single
    several = job(macs=1 << 30, parameters=0, scenario="throughput", threads=2)
    assert beyond(several) == 4 * single
    assert beyond(several, Profile(schema=1, name="x", throughput=Throughput(depth=3))) == 3 * single
    serial = BackendInfo(api=API, title="B", devices=("cuda",), precisions=("fp32",))
    assert beyond(job(macs=1 << 30, parameters=0, scenario="throughput", info=serial)) == single


def test_a_network_of_unknown_size_is_as_large_as_its_file(job, paper_student):
    stored = paper_student.files["weights"].stat().st_size
    ports = 4 * 65 * (64 + 3)
    assert capacity.worker_bytes(job(), PLAN) == capacity.CONTEXT_BYTES + 4 * stored + ports
