"""The twin: a modelled machine served to unmodified tools, as Linux's own files on the inside and as QEMU outside."""
# SPDX-License-Identifier: GPL-2.0-or-later
