"""The machine that most tests of the twin work on: 4 GiB at boot, and a DIMM of 1 GiB that is offline."""
# SPDX-License-Identifier: GPL-2.0-or-later

SMALL = """
[machine]
arch = "x86_64"
profile = "6.12"
memory = [{ start = "1M", size = "3071M" }, { start = "4G", size = "1025M" }]
[[steps]]
do = "plug"
size = "1G"
"""
