"""The engines that the TensorRT provider of ONNX Runtime keeps on disk, in one folder per batch size.

An engine's file name holds a hash of the graph's names, the versions of TensorRT and ONNX Runtime, and the
GPU's compute capability, but not its shapes: batch sizes in one folder would replace each other
(onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html, "TensorRT EP Caches"). Where a name
differs, or a file does not fit, the provider builds anew and says so in a log; here that is an error, since
load promises to write nothing and its time would be a builder's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdbench import TensorSpec, Unsupported

ENGINES = "engines"
TIMINGS = "timings"
DYNAMIC = "any"


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of one batch size, in a folder of their own."""

    folder: Path

    @classmethod
    def in_folder(cls, workdir: Path, batch_size: int | None) -> Engines:
        """Name the folder for a batch size, None for any."""
        return cls(workdir / ENGINES / str(batch_size or DYNAMIC))

    @classmethod
    def of(cls, files: Sequence[Path], batch_size: int | None) -> Engines:
        """Find the folder for a batch size by an artifact's files. Raises RuntimeError if there is none."""
        wanted = str(batch_size or DYNAMIC)
        for path in files:
            if path.parent.name == wanted and path.parent.parent.name == ENGINES:
                return cls(path.parent)
        raise RuntimeError(f"The artifact has no engine for batch size {wanted}.")

    @staticmethod
    def files(workdir: Path) -> list[Path]:
        """List what was kept, in all folders."""
        return sorted(path for path in (workdir / ENGINES).rglob("*") if path.is_file())

    def reading(self) -> dict[str, str]:
        """Give the provider's options for engines that are there."""
        return {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(self.folder)}

    def building(self, workdir: Path) -> dict[str, str]:
        """Give the provider's options for building engines; all batch sizes share their timings."""
        timings = workdir / TIMINGS
        timings.mkdir(exist_ok=True)
        return {
            **self.reading(),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(timings),
        }

    def refuse_none(self) -> None:
        """Raise Unsupported where nothing was built."""
        if not any(self.folder.iterdir()):
            raise Unsupported(
                "TensorRT took no part of this network, so that there is no engine of it.",
                hint="Use onnxruntime-cuda; the log of compile has the operators that were refused.",
            )

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Raise RuntimeError if what happens inside writes an engine: it was then built, and not loaded."""
        before = self._seen()
        yield
        if written := sorted(name for name, _ in self._seen() ^ before):
            raise RuntimeError(
                f"TensorRT built {written[0]} at load: the artifact's engine is for another GPU or version."
            )

    def _seen(self) -> set[tuple[str, tuple[int, int]]]:
        stats = {path.name: path.stat() for path in self.folder.iterdir()}
        return {(name, (stat.st_size, stat.st_mtime_ns)) for name, stat in stats.items()}


def profile(inputs: Sequence[TensorSpec], batch_sizes: Sequence[int]) -> dict[str, str]:
    """Give the range of shapes of one engine for all batch sizes, best at the largest."""

    def shapes(batch_size: int) -> str:
        return ",".join(f"{spec.name}:{'x'.join(map(str, (batch_size, *spec.shape)))}" for spec in inputs)

    most = max(batch_sizes)
    return {
        "trt_profile_min_shapes": shapes(min(batch_sizes)),
        "trt_profile_opt_shapes": shapes(most),
        "trt_profile_max_shapes": shapes(most),
    }
