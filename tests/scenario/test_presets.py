"""Presets of one architecture have one kernel, so that comparing them changes one thing."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.scenario.presets import PRESETS


def test_presets_of_one_architecture_have_one_kernel() -> None:
    for arch in {preset.arch for preset in PRESETS.values()}:
        assert len({preset.profile for preset in PRESETS.values() if preset.arch == arch}) == 1
