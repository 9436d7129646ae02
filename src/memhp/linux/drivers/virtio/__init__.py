"""``drivers/virtio``: the guest's side of virtio devices."""
# SPDX-License-Identifier: GPL-2.0-or-later
