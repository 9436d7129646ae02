"""A real machine as it was seen: from its facts to the machine that boots alike, its use, and what is assumed."""
# SPDX-License-Identifier: GPL-2.0-or-later
