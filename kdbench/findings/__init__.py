"""What a comparison says to people: changes as text, names of cells, sentences, and the word at the end.

The same words stand on a terminal and in a pull request; how they look is decided there.
"""

from __future__ import annotations
