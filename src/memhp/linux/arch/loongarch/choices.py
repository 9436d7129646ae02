"""What LoongArch decides for itself, and in which kernel how: the choices that its code reads."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from memhp.linux.choice import choice
from memhp.linux.choices import Arch, ArchProfile
from memhp.linux.release import first

if TYPE_CHECKING:
    from memhp.linux.config import Config


@dataclass(frozen=True, kw_only=True)
class LoongArchProfile(ArchProfile):
    """LoongArch: memory has been added there since 5.19, to a vmemmap since 6.2; the oldest kernel read is 6.12."""

    arch: ClassVar[Arch] = "loongarch64"
    pgd_shared: ClassVar[bool] = True
    """The CPU has one register for the root table of each half, ``PGDH`` for the kernel's."""
    hotplug_since: ClassVar[str] = "5.19"
    known_since: ClassVar[str] = "6.12"

    vmemmap_leaves: Literal["base", "huge"] = choice(
        "Which leaves ``vmemmap_populate()`` tries: base pages, as with tables of two levels, or PMDs.", first("huge")
    )
    vmemmap_fallback: Literal["base", "none"] = choice(
        "What ``vmemmap_populate_hugepages()`` does when no PMD-sized chunk is free: base pages, or ``-ENOMEM``. There "
        "is no altmap to fail, as none is used.",
        first("base"),
    )
    vmemmap_altmap: Literal["none", "any-leaf"] = choice(
        "Whether leaves of the vmemmap take their storage from an altmap: ``vmemmap_populate()`` drops it.",
        first("none"),
    )
    altmap_fallback: Literal["fail"] = choice("What happens when an altmap cannot supply a leaf.", first("fail"))
    vmemmap_free: Literal["nothing", "unused"] = choice(
        "What ``vmemmap_free()`` does: its body is empty, struct pages stay mapped for good; or it frees the leaves "
        "that no section uses any more, as powerpc's does and no kernel here.",
        first("nothing"),
    )
    page_table_section: Literal["__meminit"] = choice(
        "Where the functions live that build the direct map: there is none to build.", first("__meminit")
    )
    ptdump_lock: Literal["none"] = choice(
        "Whether the page-table dump keeps hotplug out: there is no dump.", first("none")
    )
    huge_vmalloc: bool = choice(
        "Whether ``vmalloc_huge()`` may use PMD leaves (``HAVE_ARCH_HUGE_VMALLOC``).", first(False)
    )
    optimize_dax_vmemmap: bool = choice(
        "Whether alike struct pages of a dax device's large pages share storage (``ARCH_WANT_OPTIMIZE_DAX_VMEMMAP``), "
        "which takes a struct page whose size is a power of two.",
        first(False),
    )
    virtio_mem: bool = choice("Whether ``drivers/virtio/Kconfig`` has VIRTIO_MEM for it.", first(False))


RECORD = LoongArchProfile


def loongarch(config: "Config") -> LoongArchProfile:
    """The record of a configuration's profile. Raises :class:`BadInput` where that has none."""
    return config.profile.record(LoongArchProfile)
