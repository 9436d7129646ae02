"""Devices of the model served to somebody else's virtual machine."""
# SPDX-License-Identifier: GPL-2.0-or-later
