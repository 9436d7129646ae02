"""Hot-add fills root entries of init_mm; a process is made at the same time, and uses the new memory."""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import partial

from memhp.explore.case import Case, Configuration, Variant
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.far_dimm import CHILD, GEOMETRY, add_and_online, boot_far, fork_and_use, half_made
from memhp.explore.cases.pgd_policies import POLICY_NONE, PREALLOCATE, sync, synchronised
from memhp.explore.doors.run import KernelProgram


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """Memory is added and onlined while a process is made, which allocates."""
    k = boot_far(variant.config(configuration))
    fork = partial(fork_and_use, half_made(k, CHILD))
    return KernelProgram(k, (fork, add_and_online), ("fork", "hot-add"), check=laws_hold)


CASE = Case(
    name="pgd-sync-new-process",
    actors="hot-add; fork, which copies the kernel's half of the root table",
    build=build,
    geometry=f"{GEOMETRY}; of the root table only the entries that the DIMM needs are copied during the race",
    variants=(
        POLICY_NONE,
        synchronised(
            "sync-copied-then-listed",
            "a new table is copied before synchronisation can find it, without a lock around both",
            "after-copy",
            "broken",
        ),
        synchronised(
            "sync-listed-then-copied",
            "synchronisation finds a new table before it is copied, without a lock around both",
            "before-copy",
            "broken",
        ),
        *sync("a new table is copied and listed under pgd_lock"),
        PREALLOCATE,
    ),
)
