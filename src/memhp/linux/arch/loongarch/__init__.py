"""The kernel's ``arch/loongarch``."""
# SPDX-License-Identifier: GPL-2.0-or-later
