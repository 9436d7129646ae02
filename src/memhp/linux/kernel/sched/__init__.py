"""``kernel/sched/``: who waits for what."""
# SPDX-License-Identifier: GPL-2.0-or-later
