"""How new root entries come to processes: the variants that races of hot-add and processes have in common."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.case import Configuration, StandsFor, Variant, configurations, mainline
from memhp.linux.choices import PgdList

WITH_EITHER = configurations("linux-6.12", "riscv64", "x86_64")

POLICY_NONE = Variant(
    "policy-none",
    "nothing brings new root entries to processes",
    "broken",
    WITH_EITHER,
    {"pgd_policy": "none", "pgd_preallocated": ()},
)
PREALLOCATE = Variant(
    "preallocate",
    "boot fills the root entries of the areas before the first process (riscv as it is)",
    "repaired",
    mainline("riscv64"),
)


def synchronised(
    name: str, about: str, order: PgdList, stands_for: StandsFor, where: tuple[Configuration, ...] = WITH_EITHER
) -> Variant:
    """Hot-add writes new root entries into every process's table; `order` tells when it can find a new process's."""
    return Variant(name, about, stands_for, where, {"pgd_policy": "sync", "pgd_preallocated": (), "pgd_list": order})


def sync(about: str) -> tuple[Variant, Variant]:
    """Synchronisation as it is right: as it was discussed for riscv, and as x86 has it."""
    riscv = synchronised(
        "sync", f"{about} (riscv as it was discussed)", "one-lock", "repaired", configurations("linux-6.12", "riscv64")
    )
    return riscv, Variant("sync-global-pgds", f"{about} (x86 as it is)", "repaired", mainline("x86_64"))
