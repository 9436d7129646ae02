"""The kernel's ``arch/arm64/include/asm``."""
# SPDX-License-Identifier: GPL-2.0-or-later
