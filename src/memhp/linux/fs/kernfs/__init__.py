"""``fs/kernfs``: files of sysfs, and who is inside their operations."""
# SPDX-License-Identifier: GPL-2.0-or-later
