"""Show results, plans and backends on a terminal; the only package that imports rich.

Every text that comes from a file or a plugin is shown as it is: one line, no control characters, no markup.
"""

from __future__ import annotations

from kdbench.render.comparison import comparison as comparison
from kdbench.render.ladder import ladder as ladder
from kdbench.render.listing import backends as backends, plan as plan
from kdbench.render.report import export_svg as export_svg, result as result
from kdbench.render.terminal import console as console, progress as progress

__all__ = ["backends", "comparison", "console", "export_svg", "ladder", "plan", "progress", "result"]
