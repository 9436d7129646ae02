"""The kernel's ``arch/arm64/mm``."""
# SPDX-License-Identifier: GPL-2.0-or-later
