"""``drivers/base/``: memory block devices and node devices."""
# SPDX-License-Identifier: GPL-2.0-or-later
