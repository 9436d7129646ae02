"""``drivers/dax/``: memory that a device offers for direct access."""
# SPDX-License-Identifier: GPL-2.0-or-later
