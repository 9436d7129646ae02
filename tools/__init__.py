"""Tools for those who work on memhp itself; ``dev.py`` calls them."""
# SPDX-License-Identifier: GPL-2.0-or-later
