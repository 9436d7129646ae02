"""How much memory a modelled machine may have: what costs memory here are its blocks, and tables of base pages."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.limits import MEMORY_BLOCKS, TABLE_MEMORY
from memhp.linux.config import Config
from memhp.units import format_size


def check_plugged(config: Config, block: int, size: int, where: str) -> None:
    """Refuse to plug `size` bytes at once that come to more memory blocks, of `block` bytes, or tables than there may
    be. Raises :class:`~memhp.errors.BadInput`.
    """
    if size // block > MEMORY_BLOCKS.most:
        raise MEMORY_BLOCKS.refusal(where, fix=f"memory blocks are {format_size(block)} here")
    check_mapped(config, size, where)


def check_mapped(config: Config, size: int, where: str) -> None:
    """Refuse `size` bytes whose direct map takes more page tables than there may be: a word for each base page."""
    mapped = TABLE_MEMORY.most // 8 * config.page_size
    if config.port.direct_map_in_page_tables and config.direct_map_base_pages and size > mapped:
        text = f"the direct map is made of base pages here, which is {format_size(mapped)} at most"
        raise TABLE_MEMORY.refusal(where, fix=text)
