"""drivers/base/power: what the driver core keeps of a device's power."""
# SPDX-License-Identifier: GPL-2.0-or-later
