"""The kernel's ``arch/x86/mm/pat``."""
# SPDX-License-Identifier: GPL-2.0-or-later
