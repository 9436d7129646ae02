"""The kernel's ``arch/riscv/include``."""
# SPDX-License-Identifier: GPL-2.0-or-later
