"""Numbers as text, for what is drawn here; see `kdbench.figures`."""

from __future__ import annotations

from kdbench.figures import (
    LONGEST as LONGEST,
    aligned as aligned,
    count as count,
    duration as duration,
    listed as listed,
    percent as percent,
    plain as plain,
    ratio as ratio,
    significant as significant,
    time_unit as time_unit,
)
