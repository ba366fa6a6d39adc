"""Write the doubles of real backends as distributions, found wherever their folder is on `PYTHONPATH`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from benchmarks.evidence import doubles

MODULES: Mapping[str, str] = {
    "onnxruntime": "kdbench_onnxruntime",
    "openvino": "kdbench_openvino",
    "torch-cpu": "kdbench_torch.cpu",
    "numpy": "kdbench_numpy",
}
"""The plugins that are doubled, by the names of their backends."""

ALIKE = ("alike-a", "alike-b", "alike-c", "alike-d")
CROWD = 16
"""How many sessions the crowded double takes turns among."""

_HOOKS = ("describe", "probe", "compile", "load", "run")


def every() -> dict[str, str]:
    """Give the source of each double's module, by the name of its backend."""
    found = dict.fromkeys(ALIKE, _alike("onnxruntime"))
    for backend in ("onnxruntime", "openvino", "torch-cpu"):
        for name, share in (("even", 0.0), ("slow3", 0.03), ("slow5", 0.05)):
            made = f"kdbench_run = slowed(original.kdbench_run, {share!r})"
            found[f"{name}-{backend}"] = _changed(backend, "slowed", made)
    found["idler"] = _changed("numpy", "idling", "kdbench_run = idling(original.kdbench_run)")
    for name, count in (("single", 1), ("crowd", CROWD)):
        made = f"crowded(original.kdbench_load, original.kdbench_run, {count})"
        found[name] = _changed("onnxruntime", "crowded", f"kdbench_load, kdbench_run = {made}")
    return found


def install(folder: Path) -> None:
    """Write all doubles; what is there as it should be stays, and so does what was compiled for it."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(Path(doubles.__file__), folder / "kdbench_doubles.py")
    for name, source in every().items():
        own = name.replace("-", "_")
        facts = folder / f"{own}-1.0.dist-info"
        facts.mkdir(exist_ok=True)
        _write(folder / f"{own}.py", source)
        _write(facts / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        _write(facts / "entry_points.txt", f"[kdbench]\n{name} = {own}\n")


def _alike(backend: str) -> str:
    return f"from {MODULES[backend]} import {_names(_HOOKS)}\n"


def _changed(backend: str, maker: str, made: str) -> str:
    """Give the source of a plugin whose hooks are the original's, but for those that `made` assigns."""
    module = MODULES[backend]
    kept = tuple(hook for hook in _HOOKS if f"kdbench_{hook}" not in made.partition(" = ")[0])
    # The original as a module: pluggy would take a hook by any other name for a misspelt one.
    return (
        f"import {module} as original\nfrom {module} import {_names(kept)}\n"
        f"from kdbench_doubles import {maker}\n\n{made}\n"
    )


def _names(hooks: tuple[str, ...]) -> str:
    return ", ".join(f"kdbench_{hook}" for hook in hooks)


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
