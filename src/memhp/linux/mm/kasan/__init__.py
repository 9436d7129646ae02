"""``mm/kasan/``: the shadow that says which bytes of memory may be used."""
# SPDX-License-Identifier: GPL-2.0-or-later
