"""For the operator of a host: memory blocks as they are, why one will not go, plans, applying them, and settings."""
# SPDX-License-Identifier: GPL-2.0-or-later
