"""The kernel's ``arch/riscv/kernel``."""
# SPDX-License-Identifier: GPL-2.0-or-later
