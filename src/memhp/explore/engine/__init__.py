"""The engine: every schedule of whatever can be stepped, with reduction; what it found, followed and made small."""
# SPDX-License-Identifier: GPL-2.0-or-later
