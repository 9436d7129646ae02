"""The kernel's ``arch/arm64/include``."""
# SPDX-License-Identifier: GPL-2.0-or-later
