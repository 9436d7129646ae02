"""Small programs over a small shared memory: what the engine is held against."""
# SPDX-License-Identifier: GPL-2.0-or-later
