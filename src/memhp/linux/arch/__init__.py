"""The kernel's ``arch``: a folder for each architecture, with its port; `registry` lists them."""
# SPDX-License-Identifier: GPL-2.0-or-later
