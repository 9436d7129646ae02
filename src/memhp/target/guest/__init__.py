"""A kernel in QEMU: where kernels and QEMU come from, how one boots, and what it can be told to do.

`flavours` names the kernels that can be asked for, `repository` gets them through the machine's own package sources
into the user's cache, `installed` finds what is there, `initramfs` and `agent` put a listener into the guest, `launch`
and `machine` run QEMU, `target` makes a target of it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later
