"""Scenario files: what they may say of machine and steps, and the form of what a run results in."""
# SPDX-License-Identifier: GPL-2.0-or-later
