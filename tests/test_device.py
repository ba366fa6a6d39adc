from __future__ import annotations

import pytest

from kdbench.device import HOST, begins, kind, meant, physical

UUID = "GPU-1a2b3c4d-0000-0000-0000-000000000001"


@pytest.mark.parametrize(
    ("name", "word"), [("cpu", "cpu"), ("gpu.0", "gpu"), ("cuda:1", "cuda"), ("npu", "npu")]
)
def test_the_kind_stands_before_the_number(name, word):
    assert kind(name) == word


def test_two_ids_of_one_gpu_are_one_thing_and_one_id_of_two_gpus_is_two():
    assert physical("cuda:0", UUID) == physical("gpu.1", UUID) == UUID
    assert physical("cuda:0", UUID) != physical("cuda:0", UUID.replace("1a", "1b"))


def test_every_cpu_is_the_host_and_what_has_no_uuid_is_known_by_its_id():
    assert physical("cpu") == physical("CPU") == HOST
    assert physical("gpu.0") == "gpu.0"


@pytest.mark.parametrize(
    ("wish", "yes"),
    [
        ("cuda:0", True),
        ("cuda", True),
        (UUID, True),
        ("gpu-1A2B", True),
        ("GPU-", False),
        ("gpu", False),
        ("cuda:1", False),
        ("1a2b", False),
    ],
)
def test_a_device_is_meant_by_its_id_kind_uuid_or_the_beginning_of_that(wish, yes):
    assert meant(wish, "cuda:0", UUID) is yes


def test_a_device_without_a_uuid_is_not_meant_by_one():
    assert not begins("GPU-1", "")
    assert not meant("GPU-1", "cuda:0")
