"""The kernel's ``arch/riscv``."""
# SPDX-License-Identifier: GPL-2.0-or-later
