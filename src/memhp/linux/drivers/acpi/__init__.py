"""``drivers/acpi``: what firmware tells."""
# SPDX-License-Identifier: GPL-2.0-or-later
