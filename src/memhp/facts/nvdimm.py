"""What a namespace of an NVDIMM is made for: its info block, which a host reads in the file behind a virtual one.

Without labels, as QEMU makes NVDIMMs unless it is asked for some, the namespace is the whole device. Source:
drivers/nvdimm/pfn.h (``struct nd_pfn_sb``), drivers/nvdimm/pfn_devs.c:nd_pfn_validate.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from memhp.errors import BadInput
from memhp.inputs import open_regular
from memhp.units import KiB

INFO_BLOCK = 4 * KiB
"""Where it is in the namespace, and how large."""
Use = Literal["fsdax", "devdax"]
SIGNATURES: dict[bytes, Use] = {b"NVDIMM_PFN_INFO\0": "fsdax", b"NVDIMM_DAX_INFO\0": "devdax"}
"""``PFN_SIG`` and ``DAX_SIG``, by what ndctl calls such a namespace."""
MODES: dict[int, Literal["mem", "dev"]] = {1: "mem", 2: "dev"}
"""``enum nd_pfn_mode``: struct pages in RAM, or on the device."""
_FIELDS = struct.Struct("<16s 32x 4x H H Q 8x I 4x 4x I")
"""Signature, version (major, minor), dataoff, mode, align; what lies between is not used."""


class InfoBlock(NamedTuple):
    """What a namespace is used as, where its struct pages are kept, and its page size in bytes."""

    use: Use
    map: Literal["mem", "dev"]
    align: int


def info_block(path: Path) -> InfoBlock | None:
    """The info block in a file, None where it holds none that a kernel would take. Raises BadInput if it is no file
    that can be read; one that is not there yet is empty.
    """
    try:
        with open_regular(path) as file:
            file.seek(INFO_BLOCK)
            block = file.read(INFO_BLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(error.strerror or str(error), where=str(path)) from None
    return parse(block)


def parse(block: bytes) -> InfoBlock | None:
    """An info block, None for what is none."""
    if len(block) != INFO_BLOCK or checksum(block) != int.from_bytes(block[-8:], "little"):
        return None
    signature, _, minor, offset, mode, align = _FIELDS.unpack_from(block)
    if signature not in SIGNATURES or mode not in MODES or not offset:
        return None
    return InfoBlock(
        SIGNATURES[signature], MODES[mode], align if minor >= 2 and align else 1 << offset.bit_length() - 1
    )


def checksum(block: bytes) -> int:
    """``nd_sb_checksum()``: Fletcher's of 64 bits over the block with its own field, the last, zeroed."""
    words = np.frombuffer(block[:-8] + bytes(8), "<u4").astype(np.uint64)
    low = np.cumsum(words) & np.uint64(0xFFFFFFFF)
    return (int(low.sum()) << 32 | int(low[-1])) & (1 << 64) - 1
