"""How often Python looks for garbage that counting references does not free: cycles, of which the worker makes few.

By default it looks each time 700 objects were made that are still there. Each page of observations is many times that,
so that most of what is looked through is what will be sent next: a twentieth of the work of a sync.
"""

from __future__ import annotations

import gc

#: Objects made and still there, after which the youngest are looked through. Cycles take some MiB at most until then.
_YOUNGEST = 20_000


def collect_seldom() -> None:
    """Begin to look for garbage, in what is made from now on, and seldom; what was made so far stays to the end."""
    gc.freeze()
    gc.set_threshold(_YOUNGEST)
    gc.enable()
