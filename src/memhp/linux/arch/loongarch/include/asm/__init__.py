"""The kernel's ``arch/loongarch/include/asm``."""
# SPDX-License-Identifier: GPL-2.0-or-later
