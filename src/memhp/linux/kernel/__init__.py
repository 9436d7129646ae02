"""``kernel/``: what of the kernel's core memory hotplug needs."""
# SPDX-License-Identifier: GPL-2.0-or-later
