"""``arch/s390/mm``."""
# SPDX-License-Identifier: GPL-2.0-or-later
