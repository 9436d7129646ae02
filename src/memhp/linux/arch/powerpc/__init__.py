"""Power with the radix MMU, whose page tables are read: the kernel's ``arch/powerpc``."""
# SPDX-License-Identifier: GPL-2.0-or-later
