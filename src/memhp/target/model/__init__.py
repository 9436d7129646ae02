"""The model as a target."""
# SPDX-License-Identifier: GPL-2.0-or-later
