"""``drivers/firmware/``: what the firmware told of the memory."""
# SPDX-License-Identifier: GPL-2.0-or-later
