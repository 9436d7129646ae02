"""The kernel's ``arch/loongarch/kernel``."""
# SPDX-License-Identifier: GPL-2.0-or-later
