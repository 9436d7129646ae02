"""What a platform plugs: devices, each to the letter of its specification."""
# SPDX-License-Identifier: GPL-2.0-or-later
