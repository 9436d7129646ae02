"""The kernel's ``arch/x86/include/asm``."""
# SPDX-License-Identifier: GPL-2.0-or-later
