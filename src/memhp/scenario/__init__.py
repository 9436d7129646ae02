"""Scenario files, what they may say, and their run: `rehearse(scenario) -> Run`."""
# SPDX-License-Identifier: GPL-2.0-or-later
