"""``kernel/dma/``: memory for devices."""
# SPDX-License-Identifier: GPL-2.0-or-later
