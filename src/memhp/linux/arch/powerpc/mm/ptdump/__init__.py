"""``arch/powerpc/mm/ptdump``."""
# SPDX-License-Identifier: GPL-2.0-or-later
