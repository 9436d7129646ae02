"""``drivers/xen/``: what a guest of Xen has of its own."""
# SPDX-License-Identifier: GPL-2.0-or-later
