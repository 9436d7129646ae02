"""The kernel's ``arch/x86/include``."""
# SPDX-License-Identifier: GPL-2.0-or-later
