"""The kernel's ``arch/arm64/kernel``."""
# SPDX-License-Identifier: GPL-2.0-or-later
