"""``arch/s390/boot``."""
# SPDX-License-Identifier: GPL-2.0-or-later
