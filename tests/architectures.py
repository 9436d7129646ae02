"""Which architectures a test is about, where it is not about all."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.registry import ARCHES, port

DIRECT_MAPPED = tuple(arch for arch in ARCHES if port(arch).direct_map_in_page_tables)
"""Those that map memory by page tables and unmap struct pages when it goes. What holds of LoongArch instead stands in
``tests/linux/arch/test_loongarch.py`` and ``tests/replay/test_loongarch_page_tables.py``."""
