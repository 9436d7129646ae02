"""The model as a target: its steps, the run of a scenario on it, and what a growth takes before it is tried."""
# SPDX-License-Identifier: GPL-2.0-or-later
