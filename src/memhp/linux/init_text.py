"""``__init`` code is gone after boot: ``free_initmem()``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import KernelBug
from memhp.linux.state import Kernel


def call_page_table_code(k: Kernel, place: str) -> None:
    """Enter the functions that build the direct map; they may be ``__init``, and then are there only while booting."""
    if k.initmem_freed and k.config.choices.page_table_section == "__init":
        raise KernelBug("code is called that was discarded after boot (__init)", place=place)
