"""Hot-add fills root entries of init_mm; a process is made at the same time, and uses the new memory."""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import partial

from memhp.explore.case import Case, Configuration, Variant, configurations, mainline
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.far_dimm import CHILD, GEOMETRY, add_and_online, boot_far, fork_and_use, half_made
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
        Variant(
            "policy-none",
            "nothing brings new root entries to processes",
            "broken",
            configurations("linux-6.12", "riscv64", "x86_64"),
            {"pgd_policy": "none", "pgd_preallocated": ()},
        ),
        Variant(
            "sync-copied-then-listed",
            "a new table is copied before synchronisation can find it, without a lock around both",
            "broken",
            configurations("linux-6.12", "riscv64", "x86_64"),
            {"pgd_policy": "sync", "pgd_preallocated": (), "pgd_list": "after-copy"},
        ),
        Variant(
            "sync-listed-then-copied",
            "synchronisation finds a new table before it is copied, without a lock around both",
            "broken",
            configurations("linux-6.12", "riscv64", "x86_64"),
            {"pgd_policy": "sync", "pgd_preallocated": (), "pgd_list": "before-copy"},
        ),
        Variant(
            "sync",
            "a new table is copied and listed under pgd_lock (riscv as it was discussed)",
            "repaired",
            configurations("linux-6.12", "riscv64"),
            {"pgd_policy": "sync", "pgd_preallocated": (), "pgd_list": "one-lock"},
        ),
        Variant(
            "sync-global-pgds",
            "a new table is copied and listed under pgd_lock (x86 as it is)",
            "repaired",
            mainline("x86_64"),
        ),
        Variant(
            "preallocate",
            "boot fills the root entries of the areas before the first process (riscv as it is)",
            "repaired",
            mainline("riscv64"),
        ),
    ),
)
