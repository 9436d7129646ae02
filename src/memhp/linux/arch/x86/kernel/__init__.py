"""The kernel's ``arch/x86/kernel``."""
# SPDX-License-Identifier: GPL-2.0-or-later
