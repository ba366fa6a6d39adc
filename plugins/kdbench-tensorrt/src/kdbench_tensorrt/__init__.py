"""TensorRT backends: `tensorrt`, and `tensorrt-rtx` (TensorRT for RTX), which has the same API.

Compile parses the student's ONNX file into a strongly typed network and builds one engine per batch size;
load deserialises them; run binds memory that never moves, records a CUDA graph, and replays it. Torch is not
needed: memory, streams, events and graphs come from NVIDIA's cuda-bindings.

Written for TensorRT 10 and 11 after
docs.nvidia.com/deeplearning/tensorrt/11.4.0/api/migration/tensorrt-10x-to-11x.html and for TensorRT for RTX
after docs.nvidia.com/deeplearning/tensorrt-rtx/latest.
"""

from __future__ import annotations
