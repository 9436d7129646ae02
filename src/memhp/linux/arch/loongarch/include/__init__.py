"""The kernel's ``arch/loongarch/include``."""
# SPDX-License-Identifier: GPL-2.0-or-later
