"""``drivers/base/power``: devices put to sleep and woken up."""
# SPDX-License-Identifier: GPL-2.0-or-later
