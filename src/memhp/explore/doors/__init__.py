"""The kernel code of the model as something that can be stepped, at the doors of its machine, and told in words."""
# SPDX-License-Identifier: GPL-2.0-or-later
