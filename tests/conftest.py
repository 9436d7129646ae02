"""What all tests share: their helpers are importable, and Hypothesis draws the same examples everywhere, untimed."""
# SPDX-License-Identifier: GPL-2.0-or-later

from hypothesis import settings

settings.register_profile("memhp", deadline=None, derandomize=True)
settings.load_profile("memhp")
