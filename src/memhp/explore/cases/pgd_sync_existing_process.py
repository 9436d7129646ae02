"""Hot-add fills root entries of init_mm; a process that has its root table already uses the new memory."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.case import Case, Configuration, Variant
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.far_dimm import GEOMETRY, OLDER, add_and_online, boot_far, use_page
from memhp.explore.cases.pgd_policies import POLICY_NONE, PREALLOCATE, sync
from memhp.explore.doors.run import KernelProgram
from memhp.linux.state import Kernel


def older_process(k: Kernel) -> Hashable:
    """The process allocates a page while the memory is added."""
    return use_page(k, OLDER)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """Memory is added and onlined while an older process allocates."""
    k = boot_far(variant.config(configuration))
    return KernelProgram(k, (add_and_online, older_process), ("hot-add", "process"), check=laws_hold)


CASE = Case(
    name="pgd-sync-existing-process",
    actors="hot-add; a process with an older PGD that uses the new direct map and vmemmap",
    build=build,
    geometry=GEOMETRY,
    variants=(POLICY_NONE, *sync("hot-add writes new root entries into every process's table"), PREALLOCATE),
)
