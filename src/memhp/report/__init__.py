"""What people look at: terminal timelines, tables, HTML pages, made from the plain results of a run."""
# SPDX-License-Identifier: GPL-2.0-or-later
