"""Targets: machines that a scenario can be carried out on, whether modelled, in QEMU, or real."""
# SPDX-License-Identifier: GPL-2.0-or-later
