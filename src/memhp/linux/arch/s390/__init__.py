"""IBM Z, whose page tables are read: the kernel's ``arch/s390``."""
# SPDX-License-Identifier: GPL-2.0-or-later
