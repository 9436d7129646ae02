"""The kernel's ``arch/riscv/mm``."""
# SPDX-License-Identifier: GPL-2.0-or-later
