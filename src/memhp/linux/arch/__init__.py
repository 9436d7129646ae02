"""What each architecture does on its own."""
# SPDX-License-Identifier: GPL-2.0-or-later
