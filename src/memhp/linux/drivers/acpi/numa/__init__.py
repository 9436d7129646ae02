"""``drivers/acpi/numa``: nodes as firmware numbers them."""
# SPDX-License-Identifier: GPL-2.0-or-later
