"""Which functions kernels define in files that the model stands for or names: what ``dev.py drift --record`` listed."""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
from functools import cache

from tools.drift import DEFINED


@cache
def functions_of(*releases: str) -> frozenset[str]:
    """``file:function`` of what any of these releases defines."""
    having = (line.split() for line in lzma.decompress(DEFINED.read_bytes()).decode().splitlines())
    return frozenset(place for place, *known in having if not set(releases).isdisjoint(known))
