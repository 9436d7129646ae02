"""What all tests share. Being here puts this folder on the path, so tests import ``captures``, ``trees`` and so on."""
# SPDX-License-Identifier: GPL-2.0-or-later

from hypothesis import settings

settings.register_profile("memhp", deadline=None, derandomize=True)
settings.load_profile("memhp")
