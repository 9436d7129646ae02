"""The kernel's ``arch/arm64``."""
# SPDX-License-Identifier: GPL-2.0-or-later
