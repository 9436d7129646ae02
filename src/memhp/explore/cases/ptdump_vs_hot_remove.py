"""The page-table dump walks the direct map while hot-remove frees its tables."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.case import Case, Configuration, Variant, configurations
from memhp.explore.cases.actors import boot, dump_page_tables, hot_add, hot_remove, laws_hold
from memhp.explore.doors import KernelProgram


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is in and offline; it is removed while somebody reads the dump."""
    k = boot(variant.config(configuration))
    hot_add(k)
    return KernelProgram(k, (hot_remove, dump_page_tables), ("hot-remove", "ptdump"), check=laws_hold)


CASE = Case(
    name="ptdump-vs-hot-remove",
    actors="ptdump walks the direct map; hot-remove frees its tables",
    build=build,
    variants=(
        Variant(
            "no-lock",
            "the walk takes no lock that keeps hotplug out",
            "broken",
            configurations(),
            {"ptdump_lock": "none"},
            options={"rodata_full": False},
        ),
        Variant(
            "hotplug-lock",
            "the walk holds mem_hotplug_lock",
            "repaired",
            configurations(),
            {"ptdump_lock": "mem_hotplug_lock"},
            options={"rodata_full": False},
        ),
    ),
)
