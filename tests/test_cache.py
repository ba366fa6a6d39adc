from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from kdbench import cache
from kdbench.errors import UsageError

ARTIFACT = '{"files":["model.bin"]}'


def build(folder: Path, name: str, content: bytes = b"compiled") -> tuple[cache.Entry, Path]:
    with cache.draft(folder) as workdir:
        (workdir / "deep").mkdir()
        (workdir / "model.bin").write_bytes(content)
        (workdir / "deep" / "weights.bin").write_bytes(content * 2)
        return cache.keep(folder, name, workdir, ARTIFACT, 1.5)


def drafts(folder: Path) -> list[Path]:
    return list((folder / "artifacts").glob(".draft-*"))


def test_what_was_kept_is_found_again_whole(cache_folder):
    entry, home = build(cache_folder, "a")
    assert cache.find(cache_folder, "a") == (entry, home)
    assert (entry.artifact, entry.compile_s, entry.bytes) == (ARTIFACT, 1.5, 24)
    assert set(entry.files) == {"model.bin", "deep/weights.bin"}
    assert (home / "model.bin").read_bytes() == b"compiled"
    assert drafts(cache_folder) == []


def test_what_was_never_kept_is_not_found(cache_folder):
    assert cache.find(cache_folder, "a") is None


def test_a_key_depends_on_every_fact_and_not_on_their_order():
    facts = {"student": "s", "versions": {"x": "1", "y": "2"}, "target": {"batch_sizes": (1, 8)}}
    name = cache.key(facts)
    assert name == cache.key({key: facts[key] for key in reversed(facts)})
    assert name == cache.key({**facts, "target": {"batch_sizes": [1, 8]}})
    assert len(name) == 32
    assert set(name) <= set("0123456789abcdef")
    others = [{**facts, "student": "t"}, {**facts, "versions": {"x": "1", "y": "3"}}, {**facts, "more": None}]
    assert len({name, *(cache.key(other) for other in others)}) == 4


def test_a_key_is_the_same_in_every_process():
    facts = '{"a": 1, "b": "/two"}'
    name = cache.key({"b": Path("/two"), "a": 1})
    assert hashlib.sha256(facts.encode()).hexdigest().startswith(name)


def altered(home: Path) -> None:
    (home / "model.bin").write_bytes(b"Compiled")


def shortened(home: Path) -> None:
    (home / "deep" / "weights.bin").unlink()


def added_to(home: Path) -> None:
    (home / "planted.so").write_bytes(b"!")


def torn(home: Path) -> None:
    whole = (home / cache.ENTRY).read_bytes()
    (home / cache.ENTRY).write_bytes(whole[: len(whole) // 2])


def unfinished(home: Path) -> None:
    (home / cache.ENTRY).unlink()


def of_another_version(home: Path) -> None:
    text = (home / cache.ENTRY).read_text()
    (home / cache.ENTRY).write_text(text.replace(f'"version":{cache.VERSION}', '"version":99'))


@pytest.mark.parametrize(
    "spoil",
    [altered, shortened, added_to, torn, unfinished, of_another_version],
    ids=lambda one: one.__name__,
)
def test_an_entry_that_is_not_as_it_was_kept_is_thrown_away_and_can_be_made_anew(cache_folder, spoil):
    _, home = build(cache_folder, "a")
    spoil(home)
    assert cache.find(cache_folder, "a") is None
    assert not home.exists()
    assert build(cache_folder, "a") == cache.find(cache_folder, "a")


def test_what_a_killed_run_left_half_made_is_never_taken_for_an_artifact(cache_folder):
    home = cache_folder / "artifacts" / ".draft-torn"
    home.mkdir(parents=True)
    (home / "model.bin").write_bytes(b"half")
    build(cache_folder, "a")
    assert cache.find(cache_folder, ".draft-torn") is None
    assert cache.find(cache_folder, "a") is not None


def test_drafts_of_runs_killed_more_than_a_day_ago_are_swept_and_younger_ones_stay(cache_folder):
    build(cache_folder, "a")
    aged = {".draft-old": 25, ".draft-young": 23}
    for name, hours in aged.items():
        home = cache_folder / "artifacts" / name
        home.mkdir()
        (home / "model.bin").write_bytes(b"half")
        then = time.time() - 3600 * hours
        os.utime(home, (then, then))
    outside = cache_folder / "outside"
    outside.mkdir()
    (cache_folder / "artifacts" / ".draft-link").symlink_to(outside)
    os.utime(cache_folder / "artifacts" / ".draft-link", (0, 0), follow_symlinks=False)
    os.utime(cache_folder / "artifacts" / "a", (0, 0))
    with cache.draft(cache_folder) as workdir:
        left = {path.name for path in drafts(cache_folder)}
    assert left == {".draft-young", ".draft-link", workdir.name}
    assert outside.is_dir()
    assert cache.find(cache_folder, "a") is not None


def test_a_draft_is_gone_after_a_failure(cache_folder):
    def fail():
        with cache.draft(cache_folder) as workdir:
            (workdir / "model.bin").write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert drafts(cache_folder) == []


def test_runs_that_compile_the_same_at_once_all_end_with_one_whole_artifact(cache_folder):
    together = Barrier(8)

    def work(number: int) -> tuple[cache.Entry, Path]:
        with cache.draft(cache_folder) as workdir:
            (workdir / "model.bin").write_bytes(b"%d" % number)
            together.wait()
            return cache.keep(cache_folder, "a", workdir, ARTIFACT, float(number))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))
    assert {home for _, home in found} == {cache_folder / "artifacts" / "a"}
    assert len({entry.compile_s for entry, _ in found}) == 1
    assert cache.find(cache_folder, "a") == found[0]
    assert drafts(cache_folder) == []


def test_an_entry_that_another_run_spoilt_meanwhile_is_replaced(cache_folder):
    with cache.draft(cache_folder) as workdir:
        (workdir / "model.bin").write_bytes(b"mine")
        _, theirs = build(cache_folder, "a")
        altered(theirs)
        _, home = cache.keep(cache_folder, "a", workdir, ARTIFACT, 1.0)
    assert (home / "model.bin").read_bytes() == b"mine"
    assert cache.find(cache_folder, "a") is not None


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_and_all_in_it_are_the_users_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("KDBENCH_CACHE", str(tmp_path / "deep" / "cache"))
    before = os.umask(0o000)
    try:
        folder = cache.user_folder()
        _, home = build(folder, "a")
    finally:
        os.umask(before)
    assert folder == tmp_path / "deep" / "cache"
    assert [mode(path) for path in (folder, folder / "artifacts", home)] == [0o700] * 3


def test_a_folder_that_others_could_read_is_closed_to_them(cache_folder):
    cache_folder.chmod(0o755)
    assert mode(cache.user_folder()) == 0o700


def test_a_folder_of_another_user_is_refused(cache_folder, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: cache_folder.stat().st_uid + 1)
    with pytest.raises(UsageError, match="belongs to another user") as caught:
        cache.user_folder()
    assert "KDBENCH_CACHE" in caught.value.hint


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="cannot be used: File exists") as caught:
        cache.user_folder()
    assert caught.value.exit_code == 2


def test_a_folder_that_takes_no_drafts_is_one_sentence(cache_folder):
    (cache_folder / "artifacts").write_text("")
    with pytest.raises(UsageError, match="cannot be used: File exists"), cache.draft(cache_folder):
        pass


def test_a_disk_that_is_full_is_one_sentence(cache_folder, monkeypatch):
    def write_bytes(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with cache.draft(cache_folder) as workdir:
        monkeypatch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(UsageError, match="cannot be used: No space left"):
            cache.keep(cache_folder, "a", workdir, ARTIFACT, 1.0)


def test_without_a_wish_the_folder_is_the_platforms_own(tmp_path, monkeypatch):
    monkeypatch.delenv("KDBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = cache.user_folder()
    assert folder.name == "kdbench"
    assert tmp_path in folder.parents
