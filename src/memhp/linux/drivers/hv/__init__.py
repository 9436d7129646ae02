"""Drivers of Hyper-V's virtual machine bus."""
# SPDX-License-Identifier: GPL-2.0-or-later
