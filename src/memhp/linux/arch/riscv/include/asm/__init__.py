"""The kernel's ``arch/riscv/include/asm``."""
# SPDX-License-Identifier: GPL-2.0-or-later
