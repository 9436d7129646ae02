"""``mm/`` of the kernel's tree."""
# SPDX-License-Identifier: GPL-2.0-or-later
