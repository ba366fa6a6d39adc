"""A folder of artifacts that travels: written whole or not at all, and opened only unaltered."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from kdbench import manifest, parcel
from kdbench.errors import ParcelError, StudentError, UsageError
from kdbench.manifest import Asked, Manifest, Origin, Packed, Parcel
from kdbench.profile import load
from kdbench.selection import adopted, wanted
from kdbench.spec import Device
from kdbench.student import open_student
from tests.odd_students import odd

STUDENT = "digits-2x5"
ORIGIN = Origin(created_utc="2026-11-24T12:00:00Z", kdbench="0.1.0", python="3.11.7", machine="x86_64")


def packed(backend: str = "numpy", **changes) -> Packed:
    """Give what a manifest says of an artifact with a file of its own and one of the bundle."""
    asked = Asked(
        precision="fp32",
        batch_sizes=(1, 4),
        scenario="latency",
        boundary="host",
        threads=2,
        dynamic=False,
        options={"mode": "fast", "streams": 2, "ratio": 0.5, "pinned": True},
    )
    files = [{"root": "artifact", "path": "deep/net.bin"}, {"root": "student", "path": "student.onnx"}]
    fields = {
        "folder": f"0-{backend}",
        "key": "a" * 32,
        "backend": backend,
        "distribution": f"kdbench-{backend}",
        "version": "1.0",
        "runtime_version": "2.1",
        "versions": {"numpy": "2.4"},
        "device": Device("gpu.0", "An iGPU", ("fp32",), uuid="GPU-1234", driver="9"),
        "target": asked,
        "threads": "cores",
        "artifact": msgspec.Raw(json.dumps({"files": files, "notes": {"k": "v"}}).encode()),
        "bytes": 0,
        "compile_s": 0.25,
        "absent": "no GPU",
    }
    target = {key: changes.pop(key) for key in list(changes) if key in Asked.__struct_fields__}
    threads = changes.pop("asked_threads", "cores")
    return Packed(**{**fields, "target": structs.replace(asked, **target), "threads": threads, **changes})


def written(folder: Path, *artifacts: Packed, student=None) -> Parcel:
    """Write a parcel into a folder."""
    made = folder.parent / f"{folder.name}-made"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "net.bin").write_bytes(b"native code")
    (made / "entry.json").write_text("what the cache noted")
    whole = [(one, made) for one in artifacts or (packed(),)]
    return parcel.write(folder, student or open_student(STUDENT), ORIGIN, whole)


@pytest.fixture
def sent(tmp_path) -> Path:
    """Give the folder of a parcel that arrived."""
    return written(tmp_path / "parcel").root


def altered(folder: Path, change) -> None:
    """Alter the manifest of a parcel."""
    path = folder / parcel.MANIFEST
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


def test_a_manifest_that_is_written_is_read_again_as_it_was():
    sealed = manifest.Sealed(bytes=3, sha256="b" * 64)
    whole = Manifest(
        origin=ORIGIN, student="s", student_sha256="c" * 64, artifacts=(packed(),), files={"a/b": sealed}
    )
    text = manifest.encode(whole)
    again = manifest.decode(text, "it")
    assert manifest.encode(again) == text
    assert structs.replace(again, artifacts=()) == structs.replace(whole, artifacts=())
    assert again.artifacts[0].aim == packed().aim
    assert again.artifacts[0].aim.options == {"mode": "fast", "streams": 2, "ratio": 0.5, "pinned": True}
    assert again.artifacts[0].aim.device == "gpu.0"
    assert json.loads(text)["schema"] == {"name": "kdbench.parcel", "major": 1, "minor": 0}


def test_a_parcel_has_the_bundle_the_files_of_each_artifact_and_nothing_else(sent):
    there = {path.relative_to(sent).as_posix() for path in sent.rglob("*") if path.is_file()}
    student = open_student(STUDENT)
    bundle = {"student/card.json"} | {f"student/{path.name}" for path in student.files.values()}
    assert there == {"manifest.json", "artifacts/0-numpy/deep/net.bin"} | bundle
    opened = parcel.open_parcel(sent)
    assert set(opened.manifest.files) == there - {"manifest.json"}
    assert opened.student.sha256 == student.sha256
    assert opened.student.root == sent / "student"
    assert opened.manifest.artifacts[0].bytes == len(b"native code")
    assert opened.sha256 == hashlib.sha256((sent / "manifest.json").read_bytes()).hexdigest()


def test_a_parcel_may_be_moved(sent, tmp_path):
    sent.rename(tmp_path / "moved here")
    assert parcel.open_parcel(tmp_path / "moved here").root == tmp_path / "moved here"


def test_a_folder_that_exists_is_not_written_over(tmp_path, sent):
    before = (sent / "manifest.json").read_bytes()
    for taken in (sent, tmp_path / "empty"):
        taken.mkdir(exist_ok=True)
        with pytest.raises(ParcelError, match="exists already"):
            parcel.write(taken, open_student(STUDENT), ORIGIN, [(packed(), tmp_path)])
    assert (sent / "manifest.json").read_bytes() == before


def test_writing_that_is_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(manifest, "encode", stop)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "parcel")
    assert {path.name for path in tmp_path.iterdir()} == {"parcel-made"}


def test_a_disk_that_takes_nothing_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ParcelError, match="cannot be written"):
        parcel.write(tmp_path / "file" / "parcel", open_student(STUDENT), ORIGIN, [(packed(), tmp_path)])


@pytest.mark.parametrize("which", ["artifacts/0-numpy/deep/net.bin", "student/evaluation.npz"])
def test_a_file_that_was_altered_is_refused(sent, which):
    content = bytearray((sent / which).read_bytes())
    content[0] ^= 1
    (sent / which).write_bytes(content)
    with pytest.raises(ParcelError, match=r"was altered: its sha256 is not the manifest's") as caught:
        parcel.open_parcel(sent)
    assert which in caught.value.message


def test_a_file_of_another_size_is_refused_unread(sent):
    (sent / "artifacts/0-numpy/deep/net.bin").write_bytes(b"longer native code")
    with pytest.raises(ParcelError, match="has 18 bytes, not 11 as its manifest says"):
        parcel.open_parcel(sent)


def test_a_file_that_is_missing_and_one_that_was_added_are_refused(sent):
    (sent / "artifacts/0-numpy/deep/libc.so").write_bytes(b"found before the system's own")
    with pytest.raises(ParcelError, match=r"holds the file 'artifacts/0-numpy/deep/libc.so', which its man"):
        parcel.open_parcel(sent)
    shutil.rmtree(sent / "artifacts")
    with pytest.raises(ParcelError, match=r"lacks its file 'artifacts/0-numpy/deep/net.bin'"):
        parcel.open_parcel(sent)


@pytest.mark.parametrize("way", ["../../outside", "/etc/passwd", "artifacts/../../outside", "a\\..\\b"])
def test_a_path_that_leaves_the_folder_is_refused_and_never_opened(sent, way):
    (sent.parent.parent / "outside").write_bytes(b"secret")
    seal = {"bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
    altered(sent, lambda tree: tree["files"].update({way: seal}))
    with pytest.raises(ParcelError, match="which is not a path inside it"):
        parcel.open_parcel(sent)


@pytest.mark.parametrize("way", ["../1-other/net.bin", "../../student/card.json", "/etc/passwd"])
def test_an_artifact_that_names_a_file_outside_its_own_folder_is_refused(sent, way):
    def change(tree):
        tree["artifacts"][0]["artifact"]["files"][0]["path"] = way

    altered(sent, change)
    with pytest.raises(ParcelError, match=r"The artifact of numpy gpu.0 fp32.*leaves its folder"):
        parcel.open_parcel(sent)


@pytest.mark.parametrize("name", ["..", "../student", "a/b", ".hidden", ""])
def test_an_artifact_whose_folder_is_no_name_is_refused(sent, name):
    altered(sent, lambda tree: tree["artifacts"][0].update(folder=name))
    with pytest.raises(ParcelError, match="cannot be read"):
        parcel.open_parcel(sent)


def test_a_link_is_refused_even_to_the_very_file(sent):
    file = sent / "artifacts/0-numpy/deep/net.bin"
    file.rename(sent.parent / "elsewhere.bin")
    file.symlink_to(sent.parent / "elsewhere.bin")
    with pytest.raises(ParcelError, match="is a link, or something else that is no file"):
        parcel.open_parcel(sent)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ParcelError, match="is a link, or something else that is no file"):
        parcel.open_parcel(sent)


def test_a_linked_folder_is_not_followed(sent):
    (sent / "artifacts").rename(sent.parent / "others")
    (sent / "artifacts").symlink_to(sent.parent / "others")
    with pytest.raises(ParcelError, match=r"'artifacts' in .* is a link"):
        parcel.open_parcel(sent)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (
            {"name": "kdbench.parcel", "major": 2, "minor": 1},
            r"version 2\.1 of kdbench.parcel, newer than the 1",
        ),
        ({"name": "kdbench.result", "major": 1}, "says that it is 'kdbench.result'"),
        (None, "does not say what it is"),
    ],
)
def test_a_newer_or_foreign_manifest_is_refused_before_the_rest_of_it_is_read(sent, schema, said):
    (sent / parcel.MANIFEST).write_text(json.dumps({"schema": schema, "artifacts": "of another shape"}))
    with pytest.raises(ParcelError, match=said):
        parcel.open_parcel(sent)


def test_a_key_that_a_later_minor_version_adds_is_ignored(sent):
    altered(sent, lambda tree: tree.update(later={"a": 1}, schema=tree["schema"] | {"minor": 7}))
    assert parcel.open_parcel(sent).manifest.schema.minor == 7


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema": {"name": "kdbench.parcel", "major": 1}}', "[" * 9999]
)
def test_what_is_no_manifest_is_a_sentence(sent, text):
    (sent / parcel.MANIFEST).write_text(text)
    with pytest.raises(ParcelError):
        parcel.open_parcel(sent)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backend", "evil\x1b[2J"),
        ("key", "../../x"),
        ("compile_s", -1),
        ("bytes", -1),
        ("threads", 0),
        ("target", {}),
    ],
)
def test_a_value_that_cannot_be_is_refused(sent, key, value):
    altered(sent, lambda tree: tree["artifacts"][0].update({key: value}))
    with pytest.raises(ParcelError, match="cannot be read") as caught:
        parcel.open_parcel(sent)
    assert "\x1b" not in caught.value.message


def test_a_folder_that_is_none_or_holds_no_manifest_is_a_sentence(tmp_path):
    with pytest.raises(ParcelError, match="is not there"):
        parcel.open_parcel(tmp_path / "nothing")
    with pytest.raises(ParcelError, match=r"has no manifest\.json"):
        parcel.open_parcel(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ParcelError, match="is not a folder"):
        parcel.open_parcel(tmp_path / "file")


def test_a_student_that_is_not_the_one_named_is_refused(sent):
    altered(sent, lambda tree: tree.update(student_sha256="0" * 64))
    with pytest.raises(ParcelError, match="is not the one that its manifest names"):
        parcel.open_parcel(sent)


def test_a_bundle_is_verified_as_ever(sent):
    """Whoever seals an altered bundle anew is still held against its card."""
    evaluation = sent / "student/evaluation.npz"
    evaluation.write_bytes(evaluation.read_bytes()[::-1])
    digest = hashlib.sha256(evaluation.read_bytes()).hexdigest()
    altered(sent, lambda tree: tree["files"]["student/evaluation.npz"].update(sha256=digest))
    with pytest.raises(StudentError, match="its sha256 is not the card's"):
        parcel.open_parcel(sent)


def test_code_is_not_trusted_unless_somebody_says_so():
    parcel.refuse_untrusted(["p"], trusted=True)
    with pytest.raises(UsageError, match=r"p holds compiled artifacts, which are native code") as caught:
        parcel.refuse_untrusted(["p"], trusted=False)
    assert "--trust-code" in caught.value.hint
    assert "not who made it" in caught.value.hint


def of(*artifacts: Packed, student=None) -> Parcel:
    """Give a parcel on paper."""
    numbered = tuple(structs.replace(one, folder=f"{number}") for number, one in enumerate(artifacts))
    whole = Manifest(origin=ORIGIN, student="s", student_sha256="c" * 64, artifacts=numbered, files={})
    return Parcel(root=Path("/p"), sha256="d" * 64, manifest=whole, student=student or open_student(STUDENT))


BOTH = of(
    packed("a"),
    packed("a", scenario="throughput"),
    packed("b", precision="bf16", device=Device("cpu", "A CPU")),
)


def test_a_plan_takes_what_the_parcels_hold_whatever_the_profile_says():
    profile = load("quick")
    plan = adopted(profile, [BOTH]).plan
    assert plan.backends == ("a", "b")
    assert plan.precisions == ("fp32", "bf16")
    assert plan.batches == (1, 4)
    assert plan.scenarios == ("latency", "throughput")
    assert (plan.threads, plan.boundary, plan.shapes) == ("cores", "host", "static")


def test_what_is_asked_for_picks_some_of_it():
    found = adopted(load("quick"), [BOTH], ("gpu",), batches=(4,), scenarios=("latency",), threads=(1,))
    (one,) = wanted([BOTH], found, ("gpu",))
    assert (one.packed.backend, one.batches, found.plan.threads) == ("a", (4,), 1)


@pytest.mark.parametrize(
    ("devices", "asked", "said"),
    [
        ((), {"batches": (8,)}, "of the batch size 8; there are: 1, 4"),
        ((), {"backends": ("numpy",)}, "of the backend numpy; there are: a, b"),
        ((), {"precisions": ("fp16",)}, "of the precision fp16; there are: fp32, bf16"),
        (("cuda:0",), {}, r"of the device cuda:0; there are: gpu\.0, cpu"),
        (("cpu",), {"precisions": ("fp32",)}, "No artifact given is all that was asked for"),
        ((), {"backends": ("b",), "scenarios": ("throughput",)}, "No artifact given is all that"),
    ],
)
def test_what_no_artifact_is_of_is_one_sentence(devices, asked, said):
    with pytest.raises(UsageError, match=said):
        adopted(load("quick"), [BOTH], devices, **asked)


def test_artifacts_of_two_students_are_no_run(tmp_path):
    pytest.importorskip("onnx")
    other = replace(BOTH, student=odd(tmp_path / "bundle", "vector"), root=Path("/q"))
    with pytest.raises(UsageError, match=r"^/p holds the student digits-2x5 .*, and /q "):
        adopted(load("quick"), [BOTH, other])


def test_one_artifact_given_twice_is_refused_and_two_variants_are_not():
    with pytest.raises(UsageError, match="is there twice, in /p"):
        adopted(load("quick"), [BOTH, BOTH])
    adopted(load("quick"), [of(packed("a")), of(packed("a", options={"mode": "other"}))])


def test_unlike_threads_have_to_be_settled_by_who_asks():
    unlike = of(packed("a"), packed("b", asked_threads=4))
    with pytest.raises(UsageError, match="compiled for unlike threads: cores, 4"):
        adopted(load("quick"), [unlike])
    assert adopted(load("quick"), [unlike], threads=("vendor",)).plan.threads == "vendor"


def test_a_search_for_crossovers_compiles_and_is_refused():
    profile = load("crossover")
    with pytest.raises(UsageError, match="searches for batch sizes and compiles on the way"):
        adopted(profile, [BOTH])
