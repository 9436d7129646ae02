"""``drivers/``: the drivers and the driver core as far as memory hotplug meets them."""
# SPDX-License-Identifier: GPL-2.0-or-later
