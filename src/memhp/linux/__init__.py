"""What the kernel does, laid out as the kernel's own tree; versions and patch revisions are data in `profiles`."""
# SPDX-License-Identifier: GPL-2.0-or-later
