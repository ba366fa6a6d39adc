"""Profiles: found, read with every problem at once, changed by the command line, written back."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from kdbench import profile
from kdbench.errors import ProfileError
from kdbench.problems import describe, parse, problems
from kdbench.sections import Batch, Document, Drop, Seconds
from kdbench.spec import Precision

HOUSE = ("ab", "ci", "crossover", "quick", "rigorous", "standard", "sustained")


@pytest.fixture
def write(tmp_path):
    def written(text: str, name: str = "mine.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return written


@pytest.mark.parametrize("name", HOUSE)
def test_every_shipped_profile_can_be_loaded_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = profile.load(name)
    assert loaded.name == name
    assert loaded.plan.student == "digits-2x5"
    assert profile.available()[name] == loaded.summary


def test_the_shipped_profiles_are_those_that_are_documented(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documented = (Path(__file__).parents[1] / "docs" / "profiles.md").read_text()
    assert tuple(profile.available()) == HOUSE
    assert all(f"| `{name}` |" in documented for name in HOUSE)


def test_the_defaults_of_the_sections_are_the_quick_profile(write):
    bare = profile.load(write("schema = 1"))
    quick = profile.load("quick")
    assert (bare.plan, bare.latency, bare.throughput) == (quick.plan, quick.latency, quick.throughput)


def test_the_standard_profile_reads_tails_and_memory_and_the_sustained_one_runs_a_minute():
    standard, sustained = profile.load("standard"), profile.load("sustained")
    assert (standard.latency.blocks, standard.tail.duration_s, standard.memory.measure) == (10, 10.0, True)
    assert sustained.tail.duration_s >= 60
    assert len(sustained.plan.batches) == len(sustained.plan.scenarios) == 1


def test_a_profile_in_the_current_folder_comes_before_a_shipped_one(tmp_path, monkeypatch):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "quick.toml").write_text('schema = 1\nsummary = "Mine."')
    (tmp_path / "profiles" / "other.toml").write_text('schema = 1\nsummary = "Another."')
    monkeypatch.chdir(tmp_path)
    assert profile.load("quick").summary == "Mine."
    assert profile.available()["other"] == "Another."


def test_an_unusable_profile_in_the_current_folder_is_listed_with_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "broken.toml").write_text("schema = 1\nfoo = 2")
    monkeypatch.chdir(tmp_path)
    assert "kdbench profiles check" in profile.available()["broken"]


def test_all_problems_are_told_at_once_with_key_paths_and_nearest_keys(write):
    path = write(
        """
        schema = 1
        sumary = "x"
        [plan]
        batches = [1, 0, 100000, "8"]
        precisions = ["fp23"]
        scenarios = []
        [latency]
        blocks = true
        slice_s = nan
        [throughput]
        depth = "atuo"
        [backends.torch-cpu]
        option = { mode = "compile" }
        """
    )
    with pytest.raises(ProfileError) as caught:
        profile.load(path)
    told = caught.value.message
    assert caught.value.exit_code == 2
    assert str(path) in told
    for expected in (
        "sumary is not a known key; did you mean summary?",
        "plan.batches[1] must be a whole number from 1 to 65536, not 0",
        "plan.batches[2] must be a whole number from 1 to 65536, not 100000",
        "plan.batches[3] must be a whole number from 1 to 65536, not '8'",
        "plan.precisions[0] must be fp32, tf32, fp16, bf16 or int8, not 'fp23'; did you mean fp32?",
        "plan.scenarios is empty",
        "latency.blocks must be a whole number from 1 to 1000, not true",
        "latency.slice_s must be a number from 0.001 to 60, not nan",
        "throughput.depth must be auto or a whole number from 1 to 1024, not 'atuo'; did you mean auto?",
        "backends.torch-cpu.option is not a known key; did you mean backends.torch-cpu.options?",
    ):
        assert expected in told
    assert len(profile.check(path)) == told.count("\n") == 10


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "schema is missing; it must be 1"),
        ("schema = 2", "schema must be 1, not 2"),
        ("schema = 1\nname = 'other'", "name is not a known key"),
        ("schema = 1\nplan = 3", "plan must be a table, not 3"),
        ("schema = 1\nbackends = [1]", "backends must be a table, not [1]"),
        ("schema = 1\n[plan]\nbatches = 1", "plan.batches must be a list, not 1"),
        ("schema = 1\n[plan]\nbatches = [8, 8]", "plan.batches has 8 more than once"),
        ("schema = 1\n[plan]\nstudent = ''", "plan.student must be plain text, not ''"),
        ('schema = 1\n[plan]\nstudent = "a\\u001bb"', "not 'a\\x1bb'"),
        ("schema = 1\n[latency]\nwarm_up_max_s = 0.1", "latency.warm_up_max_s must be at least"),
        ("schema = 1\n[latency]\ncalls_min = 41", "latency.calls_aim must be at least"),
        ('schema = 1\n[backends."a\\u001bb"]', "backends: a name in it must be plain text, not 'a\\x1bb'"),
        ("schema = 1\n[backends.x.options]\na = inf", "backends.x.options.a must be"),
        ("schema = 1\n[plan]\nsummary = { deep = 1 }", "plan.summary is not a known key"),
        ("schema = ", "is not TOML"),
        ("schema = 1\nschema = 1", "is not TOML"),
        ("a = " + "[" * 5000, "is not TOML"),
        ("# " + "x" * (1 << 20), "is larger than"),
        ("a = " + "9" * 5000, "a number in it is too long"),
        ('schema = 1\nsummary = "a\u202eb"', "summary must be plain text, not 'a\\u202eb'"),
        ("schema = 1979-05-27", "schema must be 1, not 1979-05-27"),
    ],
)
def test_a_bad_profile_is_refused_in_one_sentence_that_names_file_and_place(write, text, told):
    path = write(text)
    with pytest.raises(ProfileError) as caught:
        profile.load(path)
    assert told in caught.value.message
    assert path.name in caught.value.message


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProfileError, match="is not TOML"):
        profile.load(path)


def test_a_folder_or_a_pipe_is_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path / "pipe.toml", tmp_path, Path("/dev/zero")):
        with pytest.raises(ProfileError, match="is not a file"):
            profile.load(path)


def test_a_file_name_with_control_characters_gives_a_name_without(write):
    assert profile.load(write("schema = 1", "a\x1b[31m\nb.toml")).name == "a b"
    assert profile.load(write("schema = 1", os.fsdecode(b"\xff.toml"))).name == "profile"


def test_of_very_many_problems_the_first_are_told_and_the_rest_counted(write):
    path = write("schema = 1\n" + "".join(f"k{number} = 1\n" for number in range(1000)))
    with pytest.raises(ProfileError, match="has 1000 problems") as caught:
        profile.load(path)
    lines = caught.value.message.splitlines()
    assert len(lines) == profile.MOST_TOLD + 2
    assert lines[-1] == f"  and {1000 - profile.MOST_TOLD} more"


@pytest.mark.timeout(10)
def test_a_list_of_very_many_values_is_read_at_once(write):
    batches = ", ".join(str(number) for number in range(1, 65_001))
    assert len(profile.load(write(f"schema = 1\n[plan]\nbatches = [{batches}]")).plan.batches) == 65_000


def test_a_question_at_the_end_of_a_sentence_bears_no_full_stop(write):
    with pytest.raises(ProfileError, match=r"did you mean plan\.batches\?$"):
        profile.load(write("schema = 1\n[plan]\nbatchs = [1]"))


def test_an_unknown_name_offers_the_nearest_and_a_missing_file_is_named():
    with pytest.raises(ProfileError, match=r"no profile named 'quik'.*Did you mean quick\?"):
        profile.load("quik")
    with pytest.raises(ProfileError, match=r"no profile named 'zzz'.*There are ab, ci, crossover, quick"):
        profile.load("zzz")
    with pytest.raises(ProfileError, match="no profile file"):
        profile.load("nowhere/quick.toml")


def test_the_command_line_overrides_what_is_given_and_nothing_else():
    quick = profile.load("quick")
    assert profile.resolve(quick) == quick
    changed = profile.resolve(
        quick, batches=(8,), threads="vendor", blocks=5, max_drop=0.5, limits={"compile": 30.0}
    )
    assert changed.plan.batches == (8,)
    assert changed.plan.scenarios == quick.plan.scenarios
    assert changed.plan.threads == "vendor"
    assert changed.latency.blocks == changed.throughput.blocks == 5
    assert changed.latency.rounds == quick.latency.rounds
    assert changed.accuracy.max_drop == 0.5
    assert (changed.limits.compile_s, changed.limits.load_s) == (30.0, quick.limits.load_s)


def test_a_precision_on_the_command_line_holds_for_a_backend_with_its_own_precisions(write):
    own = profile.load(write('schema = 1\n[backends.openvino]\nprecisions = ["bf16"]\ndevices = ["gpu"]'))
    assert own.backends["openvino"].precisions == ("bf16",)
    changed = profile.resolve(own, precisions=("fp32",))
    assert changed.backends["openvino"].precisions == ()
    assert changed.backends["openvino"].devices == ("gpu",)


def test_an_override_out_of_range_is_refused_like_one_in_a_file():
    with pytest.raises(ProfileError, match=r"plan\.batches\[0\] must be"):
        profile.resolve(profile.load("quick"), batches=(0,))


@pytest.mark.parametrize("name", HOUSE)
def test_a_profile_survives_toml_and_json(name, tmp_path):
    loaded = profile.load(name)
    path = tmp_path / f"{name}.toml"
    path.write_text(profile.to_toml(loaded))
    assert profile.load(path) == loaded
    assert msgspec.convert(json.loads(msgspec.json.encode(loaded)), profile.Profile) == loaded


@given(
    options=st.dictionaries(
        st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=8),
        st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(-1e300, 1e300)
        | st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=8),
        max_size=3,
    )
)
def test_any_option_that_is_allowed_survives_toml(options, tmp_path_factory):
    document = {"schema": 1, "name": "any", "backends": {'a."b': {"options": options}}}
    original = msgspec.convert(document, profile.Profile)
    path = tmp_path_factory.mktemp("toml") / "any.toml"
    path.write_text(profile.to_toml(original), encoding="utf-8")
    assert profile.load(path) == original


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.sampled_from(["schema", "plan", "batches", "latency", "blocks", "backends", "options"]) | st.text()


@given(
    st.dictionaries(
        KEYS, st.recursive(SCALARS, lambda one: st.lists(one) | st.dictionaries(KEYS, one), max_leaves=6)
    )
)
def test_whatever_is_not_told_as_a_problem_can_be_converted(document):
    found = list(problems(document, Document))
    assert all(one.isprintable() for one in found)
    assert found or isinstance(msgspec.convert(document, Document), Document)


def test_limits_are_said_in_words():
    assert describe(Batch) == "a whole number from 1 to 65536"
    assert describe(Drop) == "resolution or a number from 0 to 100"
    assert describe(Seconds) == "a number above 0 and at most 86400"
    assert describe(Precision) == "fp32, tf32, fp16, bf16 or int8"


def test_words_of_a_command_line_are_read_by_the_same_types():
    assert parse(" 32", Batch) == 32
    assert parse("resolution", Drop) == "resolution"
    assert math.isclose(parse("0.5", Drop), 0.5)
    with pytest.raises(ValueError, match="'0' is not a whole number from 1 to 65536"):
        parse("0", Batch)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[crossover]\nlargest = -1", "crossover.largest must be a whole number from 0 to 65536, not -1"),
        ("[crossover]\nresolution = 2.0", "crossover.resolution must be a number from 0 to 1, not 2.0"),
        ("[crossover]\nbiggest = 8", "crossover.biggest is not a known key"),
        ("[plan]\nbatches = [64]\n[crossover]\nlargest = 32", "crossover.largest must be at least"),
        ("[crossover]\nlargest = 64\n[tail]\nduration_s = 1.0", "tail.duration_s must be 0"),
        ("[crossover]\nlargest = 64\n[memory]\nmeasure = true", "memory.measure must be false"),
    ],
)
def test_a_search_is_checked_like_any_other_table(write, text, told):
    with pytest.raises(ProfileError) as caught:
        profile.load(write(f"schema = 1\n{text}"))
    assert told in caught.value.message


def test_no_profile_but_crossover_searches():
    assert [name for name in HOUSE if profile.load(name).crossover.largest] == ["crossover"]
