from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from kdbench.errors import ContractError
from kdbench.spec import (
    Artifact,
    Available,
    BackendInfo,
    Cell,
    Device,
    Group,
    Option,
    Placement,
    Student,
    Target,
    TensorSpec,
    Unavailable,
)
from kdbench.wire import (
    artifact_from_json,
    artifact_to_json,
    decode,
    decode_availability,
    encode,
    encode_availability,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.booleans() | st.integers() | FINITE | st.text()
PATHS = st.text(st.characters(exclude_characters="\0", codec="utf-8")).map(Path)
LIMITS = st.none() | FINITE
OPTIONS = st.builds(Option, default=SCALARS, choices=st.lists(SCALARS).map(tuple), low=LIMITS, high=LIMITS)
NOUNS = st.one_of(
    OPTIONS,
    st.builds(TensorSpec),
    st.builds(Device),
    st.builds(Available),
    st.builds(Unavailable),
    st.builds(Placement),
    st.builds(Cell),
    st.builds(Group),
    st.builds(Artifact, files=st.lists(PATHS).map(tuple)),
    st.builds(BackendInfo, options=st.lists(OPTIONS, max_size=3).map(tuple)),
    st.builds(Target, options=st.dictionaries(st.text(), SCALARS)),
    st.builds(
        Student,
        root=PATHS,
        files=st.dictionaries(st.text(), PATHS),
        arguments=st.dictionaries(st.text(), SCALARS | st.lists(SCALARS)),
    ),
)


@given(NOUNS)
def test_every_noun_arrives_as_it_was_sent(noun):
    arrived = decode(encode(noun), type(noun))
    # Equality alone would take True for 1 and 1 for 1.0.
    assert (arrived, repr(arrived)) == (noun, repr(noun))


@given(st.builds(Available) | st.builds(Unavailable))
def test_a_probes_answer_arrives_as_what_it_was(answer):
    assert decode_availability(encode_availability(answer)) == answer


@given(
    st.binary() | st.recursive(SCALARS, lambda inner: st.lists(inner)).map(lambda x: json.dumps(x).encode())
)
def test_bytes_that_are_no_noun_are_refused(raw):
    with pytest.raises(ContractError, match="not the JSON of a BackendInfo"):
        decode(raw, BackendInfo)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b'{"title": "X", "devices": ["cpu"]',
        b'{"title": 1, "devices": ["cpu"], "precisions": ["fp32"]}',
        b'{"title": "X", "devices": "cpu", "precisions": ["fp32"]}',
        b'{"title": "X", "devices": ["cpu"], "precisions": ["fp64"]}',
        b'{"devices": ["cpu"], "precisions": ["fp32"]}',
        b'{"title": "\xff", "devices": ["cpu"], "precisions": ["fp32"]}',
        b'{"more": ' + b"[" * 100_000,
    ],
)
def test_malformed_json_is_a_contract_error(raw):
    with pytest.raises(ContractError, match="not the JSON of a BackendInfo"):
        decode(raw, BackendInfo)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_hold_is_refused(number):
    with pytest.raises(ContractError, match="Target cannot be written as JSON"):
        encode(Target(device="cpu", options={"limit": number}))


def test_a_foreign_object_is_refused():
    with pytest.raises(ContractError, match="it holds a value of type object"):
        encode(Artifact((), {"handle": object()}))


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"available": {"version": "1", "devices": []}, "unavailable": {"reason": "no"}}',
    ],
)
def test_a_probes_answer_is_one_of_two(raw):
    with pytest.raises(ContractError, match="'available' or 'unavailable'"):
        decode_availability(raw)


def test_an_artifact_can_be_moved_to_another_folder(tmp_path, paper_student):
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "model.bin").write_bytes(b"x")
    files = (made / "deep" / "model.bin", paper_student.files["weights"])
    raw = artifact_to_json(Artifact(files, {"layout": "nchw"}), made, paper_student)
    kept = made.rename(tmp_path / "kept")

    artifact = artifact_from_json(raw, kept, paper_student)

    assert artifact == Artifact(
        (kept / "deep" / "model.bin", paper_student.files["weights"]), {"layout": "nchw"}
    )
    assert str(tmp_path) not in raw.decode()


def test_a_link_to_the_students_file_is_stored_as_the_students(tmp_path, paper_student):
    (tmp_path / "work").mkdir()
    link = tmp_path / "work" / "weights"
    link.symlink_to(paper_student.files["weights"])
    raw = artifact_to_json(Artifact((link,)), tmp_path / "work", paper_student)
    assert json.loads(raw)["files"] == [{"root": "student", "path": "student.safetensors"}]


def test_a_file_outside_both_folders_is_not_stored(tmp_path, paper_student):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"x")
    with pytest.raises(ContractError, match="which lies neither in"):
        artifact_to_json(Artifact((elsewhere,)), tmp_path / "work", paper_student)


@pytest.mark.parametrize(
    "path", ["../secret", "a/../../secret", "/etc/passwd", "link", "absent", ".", "", "a\0b"]
)
@pytest.mark.parametrize("root", ["artifact", "student"])
def test_a_stored_path_that_leaves_its_folder_is_refused(tmp_path, paper_student, root, path):
    workdir = tmp_path / "work"
    workdir.mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    for folder in (workdir, paper_student.root):
        (folder / "link").symlink_to(tmp_path / "secret")
    raw = json.dumps({"files": [{"root": root, "path": path}], "notes": {}}).encode()
    with pytest.raises(ContractError, match="The artifact names"):
        artifact_from_json(raw, workdir, paper_student)


def test_a_stored_file_names_one_of_two_roots(tmp_path, paper_student):
    raw = b'{"files": [{"root": "system", "path": "passwd"}]}'
    with pytest.raises(ContractError, match="Invalid enum value 'system'"):
        artifact_from_json(raw, tmp_path, paper_student)
