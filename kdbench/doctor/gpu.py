"""What an NVIDIA GPU's settings and state do to measurements, and the command that mends each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdbench.doctor.finding import Facts, Finding
from kdbench.figures import count, listed, plain

_SHARED = frozenset({"default"})
"""Compute modes in which several workers may hold a context at once, as the workers of a block do."""


def gpus(facts: Facts) -> Iterator[Finding]:
    """Look at every GPU that NVML tells of; a machine without one has nothing to find."""
    found = facts.fact("gpus")
    whole = [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    for one in whole:
        name = _text(one.get("name")) or "a GPU"
        place = f" -i {_text(one.get('parent') or one.get('uuid'))}" if one.get("uuid") else ""
        of = f"{name} ({_text(one.get('uuid'))[:12]})" if len(whole) > 1 else name
        for look in (_persistence, _company, _link, _power, _throttle, _mode, _errors):
            yield from look(one, of, place)
    if whole:
        yield Finding(
            "gpu-clocks",
            "unknown",
            "whether the clocks of the GPU are locked",
            "NVML does not tell; sudo nvidia-smi -lgc MHZ locks them, and -rgc lets them go",
        )


def _persistence(gpu: Mapping[str, Any], name: str, place: str) -> Iterator[Finding]:
    persistent = gpu.get("persistence")
    if persistent is False:
        what = f"persistence of {name} is off: its driver is unloaded whenever no process uses it"
        yield Finding("gpu-persistence", "doubtful", what, f"sudo nvidia-smi{place} -pm 1")
    elif persistent:
        yield Finding("gpu-persistence", "ok", f"persistence of {name} is on")


def _company(gpu: Mapping[str, Any], name: str, place: str) -> Iterator[Finding]:
    others = _number(gpu.get("foreign"))
    if others is None:
        why = _text(gpu.get("foreign_reason")) or "its driver does not tell"
        yield Finding("gpu-foreign", "unknown", f"who else computes on {name}", why)
    elif others:
        who = "1 other process" if others == 1 else f"{others:.0f} other processes"
        fix = f"nvidia-smi{place} tells which; stop them, or measure on another GPU: --device UUID"
        yield Finding("gpu-foreign", "doubtful", f"{who} may compute on {name}", fix)
    else:
        yield Finding("gpu-foreign", "ok", f"nobody else computes on {name}")
    if drawing := _number(gpu.get("drawing")):
        what = f"{name} draws a screen for {int(drawing)} of its processes, which take its time too"
        yield Finding(
            "gpu-drawing", "doubtful", what, "measure without a desktop: sudo systemctl isolate multi-user"
        )


def _link(gpu: Mapping[str, Any], name: str, place: str) -> Iterator[Finding]:
    lanes, most = _number(gpu.get("pcie_width")), _number(gpu.get("pcie_width_max"))
    if lanes is None or most is None:
        yield Finding("gpu-link", "unknown", f"the PCIe link of {name}", "its driver does not tell")
    elif lanes < most:
        what = f"the PCIe link of {name} has {lanes:.0f} of {most:.0f} lanes: copies take longer"
        fix = f"put it into a slot with {most:.0f} lanes that the firmware does not divide"
        yield Finding("gpu-link", "doubtful", what, fix)
    else:  # its generation is low while nothing is copied, so it is judged in each result, under load
        yield Finding("gpu-link", "ok", f"the PCIe link of {name} has all of its {most:.0f} lanes")


def _power(gpu: Mapping[str, Any], name: str, place: str) -> Iterator[Finding]:
    limit, usual = _number(gpu.get("power_limit_w")), _number(gpu.get("power_limit_default_w"))
    if limit is None or usual is None:
        yield Finding("gpu-power", "unknown", f"the power limit of {name}", "its driver does not tell")
    elif limit < usual:
        what = f"the power limit of {name} is {limit:.0f} W, below its default of {usual:.0f} W"
        yield Finding("gpu-power", "doubtful", what, f"sudo nvidia-smi{place} -pl {usual:.0f}")
    else:
        yield Finding("gpu-power", "ok", f"the power limit of {name} is {limit:.0f} W")


def _throttle(gpu: Mapping[str, Any], name: str, place: str) -> Iterator[Finding]:
    reasons = gpu.get("throttle")
    if not isinstance(reasons, list):
        yield Finding(
            "gpu-throttled", "unknown", f"what lowers the clock of {name}", "its driver does not tell"
        )
    elif reasons:
        why = listed([_text(one) for one in reasons])
        what = f"the clock of {name} is lowered though nothing is measured: {why}"
        fix = (
            f"let it cool down, see to its cooling and power; nvidia-smi{place} -q -d PERFORMANCE tells more"
        )
        yield Finding("gpu-throttled", "bad", what, fix)
    else:
        yield Finding("gpu-throttled", "ok", f"nothing lowers the clock of {name}")


def _mode(gpu: Mapping[str, Any], name: str, place: str) -> Iterator[Finding]:
    mode = gpu.get("compute_mode")
    if isinstance(mode, str) and mode not in _SHARED:
        what = f"the compute mode of {name} is {_text(mode)}: the workers of a block cannot share it"
        yield Finding("gpu-mode", "bad", what, f"sudo nvidia-smi{place} -c DEFAULT")


def _errors(gpu: Mapping[str, Any], name: str, place: str) -> Iterator[Finding]:
    lost, mended = (_number(gpu.get(f"ecc_{kind}")) for kind in ("uncorrected", "corrected"))
    if lost:
        what = f"the memory of {name} had {count(int(lost), 'error')} that could not be corrected"
        yield Finding(
            "gpu-errors",
            "bad",
            what,
            f"sudo nvidia-smi{place} --gpu-reset; have it replaced if they come back",
        )
    elif mended:
        what = f"the memory of {name} had {count(int(mended), 'error')}, all corrected"
        yield Finding("gpu-errors", "doubtful", what, f"watch them: nvidia-smi{place} -q -d ECC")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: Any) -> str:
    return "" if value is None else plain(str(value))
