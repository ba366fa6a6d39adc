"""The networks that kdbench brings along, and how any network is built and measured.

`tiny`, `mobilenet` and `resnet` hold the factories behind the entry points, out of the parts in `frame`;
`factory` builds a network by its name, `cost` counts its parameters and multiply-accumulates.
"""

from kdbench.distill.nets.cost import count_macs, count_parameters
from kdbench.distill.nets.factory import build
from kdbench.distill.nets.frame import Classifier, Unit
from kdbench.distill.nets.mobilenet import mobilenetv3_small
from kdbench.distill.nets.resnet import resnet8, resnet10, resnet18
from kdbench.distill.nets.tiny import PooledNet, TinyNet, pooled_teacher, tiny_student, tiny_teacher

__all__ = [
    "Classifier",
    "PooledNet",
    "TinyNet",
    "Unit",
    "build",
    "count_macs",
    "count_parameters",
    "mobilenetv3_small",
    "pooled_teacher",
    "resnet8",
    "resnet10",
    "resnet18",
    "tiny_student",
    "tiny_teacher",
]
