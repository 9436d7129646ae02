"""Two hotplug operations on the same range at the same time."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.case import Case, Configuration, Variant, configurations
from memhp.explore.cases.actors import boot, hot_add, laws_hold
from memhp.explore.doors import KernelProgram


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """Two CPUs add the DIMM."""
    k = boot(variant.config(configuration))
    return KernelProgram(k, (hot_add, hot_add), ("hot-add", "hot-add"), check=laws_hold)


CASE = Case(
    name="two-hotplugs",
    actors="two adders",
    build=build,
    variants=(
        Variant(
            "device-hotplug-lock",
            "each holds device_hotplug_lock",
            "repaired",
            configurations(),
            options={"rodata_full": False},
        ),
    ),
)
