"""The kernel's ``arch/loongarch/mm``."""
# SPDX-License-Identifier: GPL-2.0-or-later
