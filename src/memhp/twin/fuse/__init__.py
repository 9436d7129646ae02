"""A tree of files as the kernel asks for it: the FUSE protocol spoken over ``/dev/fuse``, without a library."""
# SPDX-License-Identifier: GPL-2.0-or-later
