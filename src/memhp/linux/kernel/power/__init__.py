"""``kernel/power``: suspend and hibernation."""
# SPDX-License-Identifier: GPL-2.0-or-later
