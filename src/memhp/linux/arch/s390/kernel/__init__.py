"""``arch/s390/kernel``."""
# SPDX-License-Identifier: GPL-2.0-or-later
