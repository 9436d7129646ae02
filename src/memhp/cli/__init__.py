"""The command line: a module per command that parses, calls the library and renders; no logic."""
# SPDX-License-Identifier: GPL-2.0-or-later
