"""Opening an inference session on a provider, and finding out whether it can be."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime as ort  # noqa: TID253  # this module is imported inside hooks only

from kdbench import Unsupported
from kdbench_onnxruntime._placement import assigned
from kdbench_onnxruntime.providers import CPU, PROVIDERS, Provider

TRIAL = bytes.fromhex(
    "080812003a3b0a0c0a0178120179220452656c751201745a130a0178120e0a0c080112080a0208010a02080462130a0179120e0a0c"
    "080112080a0208010a02080442040a00100d"
)
"""An ONNX file of one Relu over (1, 4), to try whether a provider's libraries and device are there."""


def opened(
    model: Path | bytes, options: Any, provider: Provider, kind: str, settings: Mapping[str, str]
) -> Any:
    """Make an inference session on a provider and a kind of device, and on the CPU for what it leaves.

    A failing provider raises where ONNX Runtime tells: its own Python retries on the CPU unless it is told
    not to. Where it only logs one, the session's placement shows it.
    """
    if not provider.memory_pattern:
        options.enable_mem_pattern = False
    chain: dict[str, Any] = {"providers": [(provider.name, dict(settings))]}
    if provider.library:
        # One that is only named in `providers` is silently left out. Its devices tell what they are:
        # Qualcomm's simulator is a CPU, whatever it simulates.
        found = [device for device in plugin_devices(provider) if device.device.type.name.lower() == kind]
        chain = {} if found else {"providers": [PROVIDERS[CPU].name]}
        if found:
            options.add_provider_for_devices(found[:1], dict(settings))
    return ort.InferenceSession(model, options, enable_fallback=0, **chain)


def refuse_missing(provider: Provider) -> None:
    """Raise Unsupported where the installed wheels do not have a provider, and say what brings it."""
    if _is_here(provider):
        return
    if provider.library:
        hint = f"pip install {provider.wheel}"
    elif provider.wheel.startswith("onnxruntime"):
        hint = f"pip uninstall -y onnxruntime && pip install {provider.wheel}"
    else:
        hint = f"It needs {provider.wheel}."
    raise Unsupported(f"The installed ONNX Runtime has no {provider.name}.", hint=hint)


def working() -> dict[str, list[str]]:
    """Name, per kind of device, the providers whose libraries and device are really there.

    A trial tells: `get_available_providers` lists what a wheel was built with, whether or not it can run.
    """
    found: dict[str, list[str]] = {}
    for provider in PROVIDERS.values():
        if not _is_here(provider):
            continue
        for kind, settings in provider.kinds.items():
            if _answers(provider, kind, settings):
                found.setdefault(kind, []).append(provider.name)
    return found


def plugin_devices(provider: Provider) -> list[Any]:
    """Register a plugin provider's library, once, and give the devices that it finds; none where it fails."""
    if find_spec(provider.library) is None:
        return []
    if not (found := _devices(provider)):
        try:
            package = import_module(provider.library)
            ort.register_execution_provider_library(provider.name, package.get_library_path())
        except Exception:  # whatever a stranger's library raises, it is not usable
            return []
        found = _devices(provider)
    return found


def _devices(provider: Provider) -> list[Any]:
    return [device for device in ort.get_ep_devices() if device.ep_name == provider.name]


def _is_here(provider: Provider) -> bool:
    if provider.library:
        return bool(plugin_devices(provider))
    return provider.name in ort.get_available_providers()


def _answers(provider: Provider, kind: str, settings: Mapping[str, str]) -> bool:
    if provider is PROVIDERS[CPU]:
        return True
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        session = opened(TRIAL, options, provider, kind, settings)
    except Exception:  # whatever it is, the provider does not work here
        return False
    nodes, _ = assigned(session)
    # Some stay in the session's list and get no node.
    return provider.name in (nodes or session.get_providers())
