"""Our walk and drgn's, over the same random page tables, for every format that drgn knows."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drgn_oracle import drgn_walk, vmcoreinfo_for
from memhp.facts.vmcoreinfo import parse_vmcoreinfo
from memhp.hw.walker import translate
from memhp.linux.formats import FORMATS
from trees import ROOT_PFN, Tree

KNOWN = sorted(name for name, fmt in FORMATS.items() if fmt.arch in ("x86_64", "arm64"))


@pytest.mark.parametrize("name", KNOWN)
@settings(max_examples=15)
@given(data=st.data())
def test_random_mappings_translate_as_in_drgn(name: str, data: st.DataObject) -> None:
    fmt = FORMATS[name]
    tree = Tree(fmt)
    half = 1 << (fmt.va_bits - 1)
    bottom = fmt.canonical(half) if fmt.sign_extended else fmt.canonical(0)
    vas = []
    for _ in range(data.draw(st.integers(1, 5))):
        height = data.draw(st.sampled_from([h for h, level in enumerate(fmt.levels) if level.leaf]))
        size = fmt.levels[height].size
        va = bottom + data.draw(st.integers(0, half - 1)) // size * size
        count = min(data.draw(st.integers(1, 4)), ((1 << 64) - va) // size)
        pa = data.draw(st.integers(0, (1 << fmt.pa_bits) - 4 * size)) // size * size
        if any(translate(tree, fmt, ROOT_PFN, np.array([va + i * size for i in range(count)], dtype=np.uint64)).mapped):
            continue
        tree.map(va, va + count * size, height, pa, 0)
        vas += [va + data.draw(st.integers(0, count * size)) for _ in range(4)]
    vas += [bottom + data.draw(st.integers(0, half - 1)) for _ in range(3)]
    vas = [va for va in vas if va < 1 << 64]
    notes, pgd = vmcoreinfo_for(fmt, ROOT_PFN << fmt.page_shift)
    assert parse_vmcoreinfo(notes).root() == tree.root
    memory = {pfn << fmt.page_shift: row.tobytes() for pfn, row in tree.frames.items()}

    def read(pa: int, size: int) -> bytes:
        at = pa % fmt.page_size
        return memory[pa - at][at : at + size]

    follow = drgn_walk(fmt.arch, notes, pgd, [(pa, fmt.page_size) for pa in memory], read)
    ours = translate(tree, fmt, ROOT_PFN, np.array(vas, dtype=np.uint64))
    pairs = zip(ours.pa.tolist(), ours.mapped.tolist(), strict=True)
    assert [pa if mapped else None for pa, mapped in pairs] == [follow(va) for va in vas]
