from __future__ import annotations

from dataclasses import replace as replaced
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from kdbench import roster
from kdbench.discovery import Fault, Source
from kdbench.errors import BackendUnavailable, UnknownBackend, UsageError
from kdbench.plan import Plan, plan
from kdbench.request import Request
from kdbench.roster import Found
from kdbench.sections import BackendPlan, Profile, Throughput
from kdbench.spec import API, Available, BackendInfo, Device, Option, Unavailable

CPU = Device("cpu", "any CPU")
CORES = (0, 2, 4, 6)
OPTIONS = (
    Option(name="mode", type="str", default="eager", help="how to run it", choices=("eager", "compile")),
    Option(name="streams", type="int", default=1, help="how many", low=1, high=8),
)


def backend(name: str, *devices: Device, answer=None, **facts) -> Found:
    info = {
        "api": API,
        "title": name.title(),
        "devices": ("cpu",),
        "precisions": ("fp32", "bf16"),
        "options": OPTIONS,
    }
    return Found(
        name,
        source=Source(name, f"kdbench_{name}", f"kdbench-{name}", "1.0", "stamp"),
        info=BackendInfo(**{**info, **facts}),
        answer=answer or Available("9.9", devices or (CPU,)),
    )


def profile(**tables) -> Profile:
    return Profile(schema=1, name="test", **tables)


def of_plan(**keys) -> Profile:
    return profile(plan=replace(Profile(schema=1, name="x").plan, **keys))


@pytest.fixture
def planned(paper_student, tmp_path):
    """Give the maker of a plan; what is not said is one CPU backend and the default profile."""

    def make(*found: Found, cores=CORES, **asked) -> Plan:
        request = {"student": paper_student, "profile": profile(), "output": tmp_path / "r.json", **asked}
        return plan(Request(**request), found or (backend("a"),), cores)

    return make


def test_every_combination_is_a_cell_and_every_target_a_job(planned):
    found = planned(
        backend("a"),
        backend("b"),
        profile=of_plan(precisions=("fp32", "bf16"), batches=(1, 8, 32), scenarios=("latency", "throughput")),
    )
    assert len(found.cells) == len(set(found.cells)) == 2 * 2 * 3 * 2
    assert len(found.jobs) == 2 * 2 * 2
    for job in found.jobs:
        for batch, index in job.cells.items():
            cell = found.cells[index]
            assert (cell.backend, cell.batch) == (job.source.name, batch)
            assert (cell.precision, cell.scenario) == (job.target.precision, job.target.scenario)
    assert sorted(index for job in found.jobs for index in job.cells.values()) == list(range(24))
    assert {one.status for one in found.records} == {"measured"}


def test_latency_runs_at_depth_1_and_throughput_at_the_depth_asked_for(planned):
    asked = profile(throughput=Throughput(depth=4))
    depths = {cell.scenario: cell.depth for cell in planned(profile=asked).cells}
    assert depths == {"latency": 1, "throughput": 4}
    assert {cell.depth for cell in planned().cells} == {1, "auto"}


GPUS = (Device("cpu", "CPU"), Device("gpu.0", "first"), Device("gpu.1", "second"), Device("cuda:0", "third"))


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ((), ["cpu"]),
        (("gpu.1",), ["gpu.1"]),
        (("gpu",), ["gpu.0", "gpu.1"]),
        (("cuda",), ["cuda:0"]),
        (("cpu", "cuda:0"), ["cpu", "cuda:0"]),
    ],
)
def test_devices_are_chosen_by_id_or_by_kind_and_else_the_default_one(planned, wanted, ids):
    found = planned(backend("a", *GPUS), devices=wanted, profile=of_plan(scenarios=("latency",)))
    assert [job.device.id for job in found.jobs] == ids


def test_what_is_asked_for_goes_before_the_devices_of_the_profile(planned):
    own = profile(backends={"a": BackendPlan(devices=("cuda",))})
    assert {cell.device for cell in planned(backend("a", *GPUS), profile=own).cells} == {"cuda:0"}
    asked = planned(backend("a", *GPUS), profile=own, devices=("cpu",))
    assert {cell.device for cell in asked.cells} == {"cpu"}


def test_a_device_that_no_backend_has_is_refused(planned):
    with pytest.raises(UsageError, match="No backend of this run has the device npu"):
        planned(devices=("npu",))


def test_a_device_that_no_backend_has_is_refused_beside_one_that_is_there(planned):
    with pytest.raises(UsageError, match=r"No backend of this run has the device nonsense\."):
        planned(backend("a", *GPUS), devices=("cuda", "nonsense"))


def test_a_precision_that_is_not_offered_is_a_row_that_says_so_and_no_job(planned):
    found = planned(
        backend("a", precisions=("fp32",)),
        profile=of_plan(precisions=("fp32", "bf16"), batches=(1,), scenarios=("latency",)),
    )
    assert [(one.cell.precision, one.status) for one in found.records] == [
        ("fp32", "measured"),
        ("bf16", "unsupported"),
    ]
    assert found.records[1].phase == "plan"
    assert found.records[1].reason == "A does not offer bf16; it has fp32."
    assert [job.target.precision for job in found.jobs] == ["fp32"]


def test_a_precision_that_the_device_lacks_is_unsupported_though_the_backend_has_it(planned):
    found = planned(
        backend("a", Device("gpu.0", "Old GPU", ("fp32",))), profile=of_plan(precisions=("bf16",))
    )
    assert {one.status for one in found.records} == {"unsupported"}
    assert found.records[0].reason == "Old GPU does not compute in bf16; it has fp32."
    assert found.jobs == ()


def test_backends_that_offer_what_another_lacks_are_named(planned):
    found = planned(
        backend("a", precisions=("fp32",)), backend("b"), profile=of_plan(precisions=("bf16",), batches=(1,))
    )
    lacking = next(one for one in found.records if one.cell.backend == "a")
    assert (lacking.status, lacking.fix) == ("unsupported", "Backends here that offer bf16: b.")


def test_a_student_that_is_stored_in_int8_is_asked_for_nothing_else(planned, paper_student):
    found = planned(
        backend("a", precisions=("fp32", "int8")),
        student=replaced(paper_student, precision="int8"),
        profile=of_plan(precisions=("fp32", "int8"), batches=(1,), scenarios=("latency",)),
    )
    assert [(one.cell.precision, one.status) for one in found.records] == [
        ("fp32", "unsupported"),
        ("int8", "measured"),
    ]
    assert found.records[0].reason == "The stored network computes in int8, not in fp32."
    assert found.records[0].fix.startswith("Ask for --precision int8, or import the network")


def test_a_device_is_not_asked_whether_it_computes_natively_what_the_file_is_stored_in(
    planned, paper_student
):
    old = Device("cpu", "Old CPU", ("fp32",))
    asked = {"profile": of_plan(precisions=("fp16",)), "student": replaced(paper_student, precision="fp16")}
    found = planned(backend("a", old, precisions=("fp32", "fp16")), **asked)
    assert {one.status for one in found.records} == {"measured"}


def test_a_batch_size_that_is_built_in_leaves_a_job_of_that_size_and_rows_that_say_so(planned, paper_student):
    found = planned(
        student=replaced(paper_student, batch=8),
        profile=of_plan(batches=(1, 8, 32), scenarios=("latency",)),
    )
    assert [one.status for one in found.records] == ["unsupported", "measured", "unsupported"]
    assert found.records[0].reason == "The graph has the batch size 8 built in, not 1."
    assert found.records[0].fix.startswith("Ask for --batch 8, or import the network")
    [job] = found.jobs
    assert (job.target.batch_sizes, dict(job.cells)) == ((8,), {8: 1})


def test_a_batch_size_that_is_built_in_forbids_dynamic_shapes(planned, paper_student):
    found = planned(student=replaced(paper_student, batch=8), profile=of_plan(batches=(8,), shapes="dynamic"))
    assert found.jobs == ()
    assert {one.reason.split(",")[1] for one in found.records} == {" so its shapes cannot be dynamic."}


def test_a_boundary_that_a_backend_lacks_is_unsupported(planned):
    found = planned(profile=of_plan(boundary="device"))
    assert {one.status for one in found.records} == {"unsupported"}
    assert "boundary device" in found.records[0].reason


def test_precisions_of_one_backend_go_before_those_of_the_plan(planned):
    own = profile(backends={"b": BackendPlan(precisions=("bf16",))})
    found = planned(backend("a"), backend("b"), profile=own)
    assert {(cell.backend, cell.precision) for cell in found.cells} == {("a", "fp32"), ("b", "bf16")}


def test_options_are_checked_filled_up_and_seen_in_the_variant(planned):
    found = planned(options={"a": {"streams": "4"}})
    assert dict(found.jobs[0].target.options) == {"mode": "eager", "streams": 4}
    assert found.cells[0].variant == "streams=4"
    assert planned().cells[0].variant == ""


def test_an_option_that_is_asked_for_goes_before_the_profiles(planned):
    own = profile(backends={"a": BackendPlan(options={"mode": "compile", "streams": 2})})
    found = planned(profile=own, options={"a": {"streams": 3}})
    assert found.cells[0].variant == "mode=compile,streams=3"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"a": {"streems": 2}}, "no option 'streems'.*Did you mean 'streams'"),
        ({"a": {"streams": 99}}, "at most 8"),
        ({"a": {"mode": "fast"}}, "it takes eager, compile"),
        ({"aa": {"streams": 2}}, "'aa', which is not part of this run.*Did you mean a"),
    ],
)
def test_an_option_that_cannot_be_is_refused(planned, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        planned(options=options)


def test_dynamic_shapes_are_a_variant(planned):
    found = planned(profile=of_plan(shapes="dynamic"))
    assert found.cells[0].variant == "shapes=dynamic"
    assert found.jobs[0].target.dynamic


@pytest.mark.parametrize(
    ("asked", "threads", "cpus"),
    [
        ("cores", 4, CORES),
        ("vendor", None, ()),
        (1, 1, (6,)),
        (3, 3, (2, 4, 6)),
        (4, 4, CORES),
        (5, 5, ()),
    ],
)
def test_threads_decide_what_workers_are_bound_to(planned, asked, threads, cpus):
    found = planned(profile=of_plan(threads=asked))
    assert {job.target.threads for job in found.jobs} == {threads}
    assert found.cpus == cpus
    assert {cell.threads for cell in found.cells} == {asked}


def test_a_backend_that_is_not_available_is_left_out_with_its_reason(planned):
    found = planned(backend("a"), backend("b", answer=Unavailable("No such GPU.", "Buy one.")))
    assert {cell.backend for cell in found.cells} == {"a"}
    assert (found.backends[1].status, found.backends[1].reason) == ("unavailable", "No such GPU.")


def test_a_backend_that_was_named_and_is_not_available_is_an_error(planned):
    there = backend("b", answer=Unavailable("No such GPU.", "Buy one."))
    with pytest.raises(BackendUnavailable, match="'b' does not work here: No such GPU") as caught:
        planned(backend("a"), there, backends=("a", "b"))
    assert caught.value.hint == "Buy one."
    assert caught.value.exit_code == 3


def test_a_backend_that_was_named_and_is_broken_is_an_error_with_its_log(planned):
    broken = Found("b", fault=Fault("b", "import", "ImportError: no libfoo", Path("b.log")))
    with pytest.raises(BackendUnavailable, match=r"'b' is broken \(import\): ImportError") as caught:
        planned(backend("a"), broken, backends=("b",))
    assert "b.log" in caught.value.hint
    found = planned(backend("a"), broken)
    assert (found.backends[1].status, found.backends[1].phase) == ("failed", "import")


def test_a_name_is_known_but_not_installed_or_not_known_at_all():
    found = (backend("a"), backend("onnxruntime"))
    assert [one.name for one in roster.chosen(found, ())] == ["a", "onnxruntime"]
    assert [one.name for one in roster.chosen(found, ("onnxruntime", "a"))] == ["onnxruntime", "a"]
    with pytest.raises(BackendUnavailable, match="TensorRT"):
        roster.chosen(found, ("tensorrt",))
    with pytest.raises(UnknownBackend, match="Did you mean 'onnxruntime'"):
        roster.chosen(found, ("onxruntime",))


def test_six_backends_are_split_into_cohorts_that_share_an_anchor(planned):
    found = planned(*(backend(name) for name in "abcdef"))
    for scenario in ("latency", "throughput"):
        cohorts = found.cohorts(scenario)
        assert [len(cohort) for cohort in cohorts] == [4, 3]
        (anchor,) = set(cohorts[0]) & set(cohorts[1])
        names = [[found.jobs[index].source.name for index in cohort] for cohort in cohorts]
        assert found.jobs[anchor].source.name == "a"
        assert {*names[0], *names[1]} == set("abcdef")
        assert {found.jobs[index].target.scenario for cohort in cohorts for index in cohort} == {scenario}


def test_four_backends_all_live_together(planned):
    found = planned(*(backend(name) for name in "abcd"), profile=of_plan(scenarios=("latency",)))
    assert found.cohorts("latency") == ((0, 1, 2, 3),)
    assert found.cohorts("throughput") == ()


def test_a_budget_decides_the_number_of_blocks(planned):
    three = planned()
    found = planned(budget_s=three.seconds + 1)
    assert found.blocks == found.profile.throughput.blocks == 3
    assert found.seconds <= three.seconds + 1
    more = planned(budget_s=2 * three.seconds)
    assert more.blocks > 3
    assert more.seconds <= 2 * three.seconds
    assert more.notes == (f"Blocks that fit the budget of {2 * three.seconds:g} s: {more.blocks}.",)


def test_a_budget_that_is_too_short_gives_one_block_and_says_what_that_means(planned):
    found = planned(budget_s=0.5)
    assert found.blocks == 1
    notes = " ".join(found.notes)
    assert "One block cannot tell a lead from chance" in notes
    assert "longer than the budget of 0.5 s" in notes
    assert "fit the budget" not in notes


def test_a_budget_of_a_year_gives_no_more_blocks_than_a_profile_may_have(planned):
    found = planned(budget_s=365 * 86_400.0)
    assert found.blocks == 1000
    assert msgspec.convert(msgspec.to_builtins(found.profile), Profile) == found.profile


def test_the_estimate_grows_with_all_that_is_to_be_measured(planned):
    plain = planned()
    stages = dict(plain.stages)
    assert plain.seconds == pytest.approx(sum(stages.values()))
    assert set(stages) == {"compile", "latency blocks", "throughput blocks"}
    assert planned(backend("a"), backend("b")).seconds > plain.seconds
    assert planned(profile=of_plan(batches=(1, 8, 32))).seconds > plain.seconds
    base = profile()
    both = replace(base, tail=replace(base.tail, duration_s=10.0), memory=replace(base.memory, measure=True))
    assert dict(planned(profile=both).stages).keys() == {*stages, "tail", "memory"}


def test_labels_of_jobs_are_fit_for_file_names(planned):
    labels = [job.label for job in planned(backend("a", *GPUS), devices=("cuda", "gpu.0")).jobs]
    assert not any(set(label) & set(":/ ") for label in labels)
