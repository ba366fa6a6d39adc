"""The result file: what is written comes back; nothing else comes in."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from msgspec import structs

from kdbench import __version__, results, strict
from kdbench.errors import ResultError
from kdbench.records import MAJOR, MINOR, CellRecord, Lead, Result, Run, Samples, Slice, Subject
from kdbench.spec import Cell

SHIPPED_SCHEMA = Path(results.__file__).with_name("result.schema.json")


def a_slice(**changes) -> Slice:
    times = dict.fromkeys(("median_ns", "p10_ns", "p25_ns", "p75_ns", "mean_ns"), 10.0)
    facts = {
        "cell": 0,
        "block": 0,
        "started_ns": 5,
        "duration_ns": 100,
        "calls": 9,
        "min_ns": 9,
        "max_ns": 12,
    }
    return Slice(**{**times, **facts, **changes})


def a_result(**changes) -> Result:
    cell = Cell(backend="numpy", device="cpu", precision="fp32", batch=1, scenario="latency")
    facts = {
        "run": Run(id="a", started_utc="2026-01-02T03:04:05Z", profile={"blocks": 3}),
        "subject": Subject(student="s", student_sha256="0" * 64, task="classification", classes=("a", "b")),
        "environment": {"cpu": {"model": "M", "quota": None}},
        "cells": (CellRecord(cell=cell, status="measured"),),
        "slices": (a_slice(),),
        "samples": (Samples(cell=0, block=0, calls=3, growth=1.001, bins=(7, 9), counts=(1, 2)),),
        "stages": (("probe", 0.25),),
    }
    return Result(**{**facts, **changes})


@pytest.fixture
def written(tmp_path) -> Path:
    path = tmp_path / "r.json"
    results.write(a_result(), path)
    return path


def refusal(path: Path) -> ResultError:
    with pytest.raises(ResultError) as caught:
        results.read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return caught.value


def outcome(path: Path) -> Result | ResultError:
    try:
        return results.read(path)
    except ResultError as error:
        return error


def altered(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_what_is_written_is_read_back(written):
    assert results.read(written) == a_result()


def test_the_file_has_a_line_for_each_section_and_each_record(written):
    lines = written.read_text().splitlines()
    assert lines[1].startswith('"schema":{"name":"kdbench.result"')
    assert sum(line.startswith('{"cell":0,"block":0,') for line in lines) == 2
    assert json.loads(written.read_text())["slices"][0]["calls"] == 9


def test_the_shipped_json_schema_is_current():
    assert SHIPPED_SCHEMA.read_text(encoding="utf-8") == results.schema_text()


def test_a_written_file_satisfies_the_json_schema_and_a_wrong_one_does_not(written):
    jsonschema.Draft202012Validator.check_schema(results.json_schema())
    validator = jsonschema.Draft202012Validator(results.json_schema())
    plain = json.loads(written.read_text())
    validator.validate(plain)
    assert not validator.is_valid({**plain, "cells": [{"status": "measured"}]})
    assert not validator.is_valid({key: value for key, value in plain.items() if key != "schema"})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_not_written(tmp_path, number):
    bad = a_result(slices=(a_slice(median_ns=number),))
    with pytest.raises(ResultError, match=r"slices\.median_ns is -?(nan|inf)"):
        results.write(bad, tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


def test_an_integer_beyond_64_bits_is_refused_in_both_directions(tmp_path, written):
    with pytest.raises(ResultError, match="64 bits"):
        results.write(a_result(environment={"x": 2**63}), tmp_path / "other.json")
    assert "64 bits" in refusal(altered(written, '"duration_ns":100', f'"duration_ns":{2**70}')).message


def test_an_object_in_the_environment_is_not_written(tmp_path):
    with pytest.raises(ResultError, match="cannot be written as JSON"):
        results.write(a_result(environment={"x": tmp_path}), tmp_path / "r.json")


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_a_literal_that_json_does_not_have_is_refused_by_name(written, literal):
    assert (
        f"holds {literal}," in refusal(altered(written, '"median_ns":10.0', f'"median_ns":{literal}')).message
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"calls":9', '"calls":"9"', "at slices[0].calls, expected `int`, got `str`"),
        ('"calls":9', '"calls":-9', "at slices[0].calls"),
        ('"median_ns":10.0', '"median_ns":1e999', "at slices[0].median_ns, number out of range"),
        ('"status":"measured"', '"status":"superb"', "at cells[0].status"),
        ('"cells":[', '"cells":7,"x":[', "at cells, expected `array`, got `int`"),
        ('"subject":{', '"x":{', "required field `subject`"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(written, old, new, told):
    assert told in refusal(altered(written, old, new)).message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\xff\xfe", "is no JSON"),
        (b'"\xed\xa0\x80"', "cannot be read"),
        (b"hello", "is no JSON"),
        (b"[]", "expected `object`, got `array`"),
        (b"{}", "does not say what it is"),
        (b'{"schema":{"name":"other\\u001b[31m","major":1}}', "says that it is 'other'"),
        (b'{"schema":7}', "at schema, expected `object | null`, got `int`"),
        (b'{"schema":null,"environment":' + b"[" * 200_000, "nested too deeply"),
        (b'{"x":' + b'{"x":' * 200_000, "nested too deeply"),
    ],
)
def test_what_is_no_result_is_refused_in_one_sentence(tmp_path, content, told):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    assert told in refusal(path).message


def test_a_truncated_file_is_refused_at_any_length(written):
    whole = written.read_bytes().rstrip()
    for length in range(len(whole)):
        written.write_bytes(whole[:length])
        refusal(written)


def test_a_file_beyond_the_size_limit_is_refused_unparsed(tmp_path):
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(results.MAX_BYTES + 1)
    assert f"more than {results.MAX_BYTES} bytes" in refusal(path).message


@pytest.mark.parametrize("depth", [10, 300, 450, 600, 900, 1100, 5000])
def test_a_deep_environment_is_read_or_refused_and_written_alike(written, depth):
    altered(written, '"environment":{', f'"environment":{{"x":{"[" * depth}{"]" * depth},')
    found = outcome(written)
    if isinstance(found, ResultError):
        assert "nested too deeply" in found.message
        assert depth > 100
    else:
        results.write(found, written, overwrite=True)


def test_a_very_wide_unknown_part_is_passed_over(written):
    wide = "[" + ",".join(["[]"] * 300_000) + "]"
    assert results.read(altered(written, '"run":', f'"later":{wide},"run":')) == a_result()


def test_a_file_of_nothing_but_brackets_is_refused_before_it_fills_the_memory(written):
    wide = "[" + ",".join(["[]"] * strict.MAX_CONTAINERS) + "]"
    assert (
        "lists and objects"
        in refusal(altered(written, '"environment":{', f'"environment":{{"x":{wide},')).message
    )


@pytest.mark.parametrize(
    ("integer", "fits"), [(10**18, True), (2**63 - 1, True), (2**63, False), (-(2**63), True)]
)
def test_integers_are_read_up_to_64_bits_in_lists_and_alone(tmp_path, integer, fits):
    for name, environment in enumerate(({"x": integer}, {"x": [1, integer]}, {"x": [True, integer]})):
        path = tmp_path / f"{name}.json"
        results.write(a_result(), path)
        altered(path, '"quota":null', f'"quota":{json.dumps(environment)}')
        found = outcome(path)
        assert isinstance(found, Result) is fits
        if fits:
            assert found.environment["cpu"]["quota"] == environment


def test_unknown_keys_and_a_newer_minor_are_accepted(written):
    altered(written, f'"minor":{MINOR}', '"minor":99,"novel":1')
    altered(written, '"calls":9', '"calls":9,"novel":{"x":null}')
    assert results.read(written).slices == (a_slice(),)


def test_a_newer_major_is_refused_naming_both_versions(written):
    error = refusal(altered(written, f'"major":{MAJOR}', f'"major":{MAJOR + 1}'))
    assert f"version {MAJOR + 1}.{MINOR}" in error.message
    assert f"kdbench {__version__}" in error.message
    assert "pip install" in error.hint


def test_an_older_major_goes_through_the_table_of_migrations(written, monkeypatch):
    def from_zero(tree):
        return {**tree, "subject": {**tree["subject"], "student": tree["subject"]["model"]}}

    altered(written, f'"major":{MAJOR}', '"major":0')
    altered(written, '"student":"s"', '"model":"older"')
    monkeypatch.setattr(results, "MIGRATIONS", MappingProxyType({0: from_zero}))
    result = results.read(written)
    assert result.subject.student == "older"
    assert result.schema.major == MAJOR


def test_an_older_major_that_nothing_migrates_is_refused(written):
    assert "older than" in refusal(altered(written, f'"major":{MAJOR}', '"major":0')).message


def test_a_migration_that_meets_a_malformed_file_gives_a_sentence(written, monkeypatch):
    monkeypatch.setattr(results, "MIGRATIONS", MappingProxyType({0: lambda tree: tree["absent"]}))
    assert "not a sound file" in refusal(altered(written, f'"major":{MAJOR}', '"major":0')).message


@pytest.mark.parametrize(
    "changes",
    [
        {"slices": (a_slice(cell=1),)},
        {"leads": (Lead(scenario="latency", batch=1, leader=-1, verdict="alone"),)},
        {"leads": (Lead(scenario="latency", batch=1, leader=0, runner_up=1, verdict="tie"),)},
        {"samples": (Samples(cell=0, block=0, calls=3, growth=1.001, bins=(7, 9), counts=(1,)),)},
        {"samples": (Samples(cell=0, block=0, calls=3, bins=(7,), counts=(3,)),)},
        {"samples": (Samples(cell=0, block=0, calls=3, growth=0.5, bins=(7,), counts=(3,)),)},
        {"samples": (Samples(cell=0, block=0, calls=3, growth=1e300, bins=(7,), counts=(3,)),)},
        {"samples": (Samples(cell=0, block=0, calls=3, growth=1.001, bins=(2**62,), counts=(3,)),)},
        {"samples": (Samples(cell=0, block=0, calls=3, growth=1.001, bins=(-7,), counts=(3,)),)},
        {"samples": (Samples(cell=0, block=0, calls=3, growth=1.001, bins=(7, 9), counts=(4, -1)),)},
        {"samples": (Samples(cell=0, block=0, calls=3, growth=1.001, bins=(7,), counts=(0,)),)},
        {"samples": (Samples(cell=0, block=0, calls=3, growth=1.001),)},
        {"samples": (Samples(cell=0, block=0, calls=3),)},
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused_in_both_directions(tmp_path, changes):
    with pytest.raises(ResultError, match="inconsistent"):
        results.write(a_result(**changes), tmp_path / "r.json")
    (tmp_path / "r.json").write_bytes(strict.encode(a_result(**changes)))
    assert "inconsistent" in refusal(tmp_path / "r.json").message


def test_text_of_a_stranger_is_cleaned_on_reading(written):
    altered(written, '"student":"s"', r'"student":"\u001b]0;owned\u0007a\u001b[31mb\nc\u202e"')
    altered(written, '"model":"M"', r'"mo\u001b[1mdel":"M\u009b2J"')
    result = results.read(written)
    assert result.subject.student == "ab c"
    assert result.environment["cpu"] == {"model": "M", "quota": None}


@given(st.text())
def test_cleaned_text_is_printable_and_cleaning_it_again_changes_nothing(text):
    once = results.clean(text)
    assert once.isprintable()
    assert results.clean(once) == once


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"])))
def test_harmless_text_is_left_as_it_is(text):
    assert results.clean(text) == text


def test_an_undecodable_argument_does_not_spoil_the_file(tmp_path):
    bad = a_result(run=Run(id="a", started_utc="t", argv=("run", os.fsdecode(b"\xff.json"))))
    results.write(bad, tmp_path / "r.json")
    assert results.read(tmp_path / "r.json").run.argv == ("run", ".json")


def test_an_existing_file_is_kept_unless_told_otherwise(written):
    before = written.read_bytes()
    other = structs.replace(a_result(), environment={})
    with pytest.raises(ResultError, match="exists"):
        results.write(other, written)
    assert written.read_bytes() == before
    results.write(other, written, overwrite=True)
    assert results.read(written) == other
    assert list(written.parent.iterdir()) == [written]


@pytest.mark.parametrize("name", ["absent/r.json", "file/r.json", "/proc/self/r.json", "n" * 300 + ".json"])
def test_a_place_that_cannot_be_written_is_a_sentence_with_a_hint(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match="cannot be written") as caught:
        results.write(a_result(), tmp_path / name)
    assert "--output" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only folder")
def test_a_read_only_folder_is_a_sentence(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(ResultError, match="Permission denied"):
        results.write(a_result(), tmp_path / "r.json")


def test_a_file_that_outgrows_the_disk_leaves_nothing_and_keeps_the_old_one(tmp_path, written):
    # A limit on the size of files stands for the full disk: write() fails half-way in the same manner.
    program = f"""
import resource
from pathlib import Path
from msgspec import structs
from kdbench import results
from kdbench.errors import ResultError
path = Path({str(written)!r})
large = structs.replace(results.read(path), environment={{"x": "y" * 100_000}})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for target in (path, path.with_name("new.json")):
    try:
        results.write(large, target, overwrite=True)
    except ResultError as error:
        print(error)
"""
    before = written.read_bytes()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("cannot be written: File too large") == 2
    assert written.read_bytes() == before
    assert list(tmp_path.iterdir()) == [written]


def test_a_missing_file_a_folder_and_a_device_are_told_apart(tmp_path):
    assert "There is no file" in refusal(tmp_path / "absent.json").message
    assert "is not a file" in refusal(tmp_path).message
    assert "is not a file" in refusal(Path(os.devnull)).message


def test_the_default_name_is_utc_time_and_profile_in_results_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    now = datetime(2026, 11, 22, 15, 40, 5, tzinfo=timezone(timedelta(hours=2)))
    assert results.default_path(None, "quick", now) == Path("2026-11-22T13-40-05Z-quick.json")
    (tmp_path / "results").mkdir()
    first = results.default_path(None, "quick", now)
    assert first == Path("results/2026-11-22T13-40-05Z-quick.json")
    assert (
        results.default_path(tmp_path, "/my/pl an$(x).toml", now).name == "2026-11-22T13-40-05Z-pl-an-x.json"
    )


def test_the_default_name_is_never_that_of_a_result_or_a_journal(tmp_path):
    now = datetime(2026, 1, 2, tzinfo=UTC)
    first = results.default_path(tmp_path, "ci", now)
    first.touch()
    second = results.default_path(tmp_path, "ci", now)
    second.with_name(second.name + results.JOURNAL_SUFFIX).touch()
    third = results.default_path(tmp_path, "ci", now)
    assert len({first, second, third}) == 3


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_gives_a_result_or_a_sentence(written, data):
    whole = bytearray(strict.encode(a_result()))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, min(len(whole), start + 8)))
        whole[start:end] = data.draw(st.binary(max_size=8))
    written.write_bytes(whole)
    found = outcome(written)
    if isinstance(found, Result):
        results.check(found, "it")
    else:
        assert str(found).isprintable()
