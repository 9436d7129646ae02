"""Two targets held against each other, fact by fact."""
# SPDX-License-Identifier: GPL-2.0-or-later
