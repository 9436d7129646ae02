"""QEMU's outside of a twin: the monitor (QMP) and the guest agent, as far as memory goes, as QEMU 11.1 answers."""
# SPDX-License-Identifier: GPL-2.0-or-later
