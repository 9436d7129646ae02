"""What addresses are in every 64-bit kernel, whatever its configuration."""
# SPDX-License-Identifier: GPL-2.0-or-later

ADDRESS_SPACE = 1 << 64
ADDRESS_MASK = ADDRESS_SPACE - 1

SUBSECTION_SHIFT = 21
"""2 MiB (``include/linux/mmzone.h``)."""
