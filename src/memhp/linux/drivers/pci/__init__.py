"""PCI devices: ``drivers/pci``."""
# SPDX-License-Identifier: GPL-2.0-or-later
