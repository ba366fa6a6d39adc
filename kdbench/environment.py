"""Find the facts of the host that a measurement depends on, and what disturbs it while it goes on.

Facts that this system does not tell are None, and `unknown` says why. Nothing here names a person, a
folder or the machine: its name is hashed, variables come from a list, and values that hold a path are
withheld, because results are made to be passed on.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from kdbench import __version__, cgroup, cpu, sensors, ticks
from kdbench.cgroup import throttled_ns as throttled_ns
from kdbench.strict import clean
from kdbench.sysfs import ROOT, integer, numbers, text

OWN_DISTRIBUTIONS = ("msgspec", "numpy", "pluggy", "psutil", "scipy")

VARIABLES = re.compile(
    r"(OMP|KMP|GOMP|MKL|OPENBLAS|BLIS|VECLIB|DNNL|ONEDNN|TBB|ORT|OV|OPENVINO|TORCH|TORCHINDUCTOR|PYTORCH"
    r"|ATEN|CUDA|CUBLAS|CUDNN|NVIDIA|TF32|MALLOC|KDBENCH)_\w+|LD_PRELOAD|PYTHON(MALLOC|HASHSEED|_GIL|_JIT)"
)
"""Environment variables that change how fast something runs; only these are recorded."""

MUST_AGREE = (
    *("kdbench", "host_hash", "python", "versions", "os", "variables", "settings"),
    *("cpu.model", "cpu.features", "cpu.logical", "cpu.affinity", "cpu.usable", "cpu.quota"),
    *("cpu.smt", "cpu.governor", "cpu.turbo", "memory.limit_bytes", "clock.source", "power.on_battery"),
    *("gpus.name", "gpus.uuid", "gpus.driver", "gpus.cuda", "gpus.power_limit_w", "gpus.ecc", "gpus.mig"),
    *("gpus.persistence", "gpus.compute_mode"),
)
"""Facts, or groups of them, in which two halves of one run must not differ; those of GPUs hold for each of
them."""

_NUMBER = re.compile(r"^gpus\.\d+\.")

_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|KEY$", re.IGNORECASE)
_CONTAINERS = re.compile(r"docker|kubepods|containerd|libpod|crio|lxc")
_REASONS = {
    "cpu.governor": "no frequency driver, as usual in a virtual machine",
    "cpu.frequency_driver": "no frequency driver, as usual in a virtual machine",
    "cpu.max_mhz": "no frequency driver, as usual in a virtual machine",
    "cpu.turbo": "the frequency driver does not tell",
    "cpu.quota": "no quota is set",
    "cpu.throttle_count": "the processor's driver does not count it",
    "memory.limit_bytes": "no limit is set",
    "os.container": "no sign of one",
    "power.on_battery": "no battery is seen",
}


def host(
    distributions: Iterable[str] = (), *, gpus: Sequence[Mapping[str, Any]] = (), root: Path = ROOT
) -> dict[str, Any]:
    """Give the facts of this host as plain JSON.

    distributions: whose versions are recorded beside those that kdbench itself computes with.
    gpus: what `nvidia.facts` tells of those that count; without one there is no word of them.
    root: the folder that holds `proc` and `sys`.
    """
    facts: dict[str, Any] = {
        "kdbench": __version__,
        "host_hash": host_hash(),
        "python": _python(),
        "versions": versions((*OWN_DISTRIBUTIONS, *distributions)),
        "os": _system(root),
        "cpu": {
            **cpu.describe(root),
            "affinity": list(cpu.affinity(root)),
            "usable": list(usable_cores(root)),
            "quota": cgroup.cpu_quota(root),
            "throttle_count": sensors.throttle_count(root),
        },
        "memory": _memory(root),
        "load_average": load_average(),
        "clock": _clock(root),
        "power": _power(root),
        "settings": _settings(root),
        "variables": variables(os.environ),
    }
    if gpus:
        facts["gpus"] = [dict(gpu) for gpu in gpus]
    facts["unknown"] = {
        path: _REASONS.get(path, "not told by this system") for path, fact in _leaves(facts) if fact is None
    }
    return facts


def host_hash() -> str:
    """Give what stands for this machine's name."""
    return hashlib.sha256(os.fsencode(platform.node())).hexdigest()[:16]


def versions(names: Iterable[str]) -> dict[str, str]:
    """Give the version of each installed distribution among `names`."""
    from importlib import metadata

    found = {}
    for name in sorted(set(names)):
        try:
            found[name] = metadata.version(name)
        except (metadata.PackageNotFoundError, ValueError):
            continue
    return found


def usable_cores(root: Path = ROOT) -> tuple[int, ...]:
    """List the logical CPUs to compute on: one for each physical performance core.

    All lie within the affinity of the calling thread; there are no more than the quota pays for, and
    at least one.
    """
    cores = cpu.performance_cores(cpu.affinity(root), root)
    quota = cgroup.cpu_quota(root)
    return cores if quota is None else cores[: max(1, int(quota))]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """List, a clause each, the facts in `MUST_AGREE` that differ; empty when a run may be resumed.

    Load, free memory and time are no part of them.
    """
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return tuple(
        f"{clean(path)} was {_shown(before, path)} and is {_shown(after, path)}"
        for path in dict.fromkeys([*before, *after])
        if must_agree(path) and before.get(path) != after.get(path)
    )


def must_agree(path: str) -> bool:
    """Tell whether the fact at a path, such as `cpu.model` or `gpus.0.driver`, is one of `MUST_AGREE`."""
    path = _NUMBER.sub("gpus.", path)
    return any(path == fact or path.startswith(f"{fact}.") for fact in MUST_AGREE)


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Choose the environment variables that change how fast something runs, fit to be passed on."""
    persons = {environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME")} - {""}
    kept = {}
    for name in sorted(environ):
        if VARIABLES.fullmatch(name) and not _SECRET.search(name):
            value = clean(environ[name])[:200]
            private = any(mark in value for mark in ("/", "\\", "~", *persons))
            kept[name] = "(withheld: it holds a path or a name)" if private else value
    return kept


def steal_ns(cpus: Collection[int] | None = None, root: Path = ROOT) -> int | None:
    """Tell how long a hypervisor has kept `cpus` (None: all) from running, summed over them.

    Only grows, in steps of a clock tick (usually 10 ms). None where the system does not count it.
    """
    return ticks.stolen_ns(ticks.read(root), cpus)


def load_average() -> list[float] | None:
    """Give the mean number of runnable processes over 1, 5 and 15 minutes; None where it is not kept."""
    try:
        return list(os.getloadavg())
    except (AttributeError, OSError):
        return None


def _python() -> dict[str, Any]:
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "compiler": platform.python_compiler(),
        "free_threaded": not getattr(sys, "_is_gil_enabled", lambda: True)(),
    }


def _system(root: Path) -> dict[str, Any]:
    release = re.search(r'^PRETTY_NAME="?([^"\n]+)', text(root / "etc/os-release") or "", re.MULTILINE)
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "distribution": clean(release[1]) if release else None,
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "container": _container(root),
    }


def _container(root: Path) -> str | None:
    for mark, name in ((".dockerenv", "docker"), ("run/.containerenv", "podman")):
        if (root / mark).exists():
            return name
    told = text(root / "run/systemd/container")
    if told:
        return clean(told)[:40]
    groups = f"{text(root / 'proc/self/cgroup')} {text(root / 'proc/1/cgroup')}"
    sign = _CONTAINERS.search(groups)
    return sign[0] if sign else None


def _memory(root: Path) -> dict[str, Any]:
    import psutil

    with warnings.catch_warnings():
        # Containers often hide the counters of swapped pages, which are not wanted here.
        warnings.simplefilter("ignore", RuntimeWarning)
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "total_bytes": memory.total,
        "available_bytes": memory.available,
        "limit_bytes": cgroup.memory_limit_bytes(root),
        "swap_total_bytes": swap.total,
        "swap_used_bytes": swap.used,
    }


def _clock(root: Path) -> dict[str, Any]:
    """Measure the clock that times calls: its smallest step, and what reading it costs."""
    readings = [time.perf_counter_ns() for _ in range(2000)]
    steps = [after - before for before, after in pairwise(readings) if after > before]
    info = time.get_clock_info("perf_counter")
    return {
        "implementation": info.implementation,
        "monotonic": info.monotonic,
        "adjustable": info.adjustable,
        "declared_resolution_ns": round(info.resolution * 1e9),
        "smallest_step_ns": min(steps, default=None),
        "reading_ns": (readings[-1] - readings[0]) / (len(readings) - 1),
        "source": text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }


def _power(root: Path) -> dict[str, Any]:
    batteries, mains = [], False
    for supply in sorted((root / "sys/class/power_supply").glob("*")):
        if text(supply / "type") == "Battery" and text(supply / "scope") != "Device":
            batteries.append(text(supply / "status"))
        mains = mains or (text(supply / "type") == "Mains" and integer(supply / "online") == 1)
    return {"on_battery": "Discharging" in batteries and not mains if batteries else None}


def _settings(root: Path) -> dict[str, Any]:
    huge_pages = re.search(r"\[(\w+)\]", text(root / "sys/kernel/mm/transparent_hugepage/enabled") or "")
    return {
        "address_randomization": integer(root / "proc/sys/kernel/randomize_va_space"),
        "transparent_huge_pages": huge_pages[1] if huge_pages else None,
        "isolated_cpus": list(numbers(root / "sys/devices/system/cpu/isolated")),
    }


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif f"{prefix}{key}" == "gpus" and isinstance(value, list):
            numbered = {str(number): gpu for number, gpu in enumerate(value)}
            yield from _leaves(numbered, "gpus.")
        else:
            yield f"{prefix}{key}", value


def _shown(facts: Mapping[str, Any], path: str) -> str:
    return clean(repr(facts[path]))[:100] if path in facts else "absent"
