"""``WARN()`` and ``WARN_ON_ONCE()``: what the kernel says when it meets what should not be, and goes on."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel

KERNEL_FILE = "kernel/panic.c"


@kernel_function(None)
def warn(k: Kernel, place: str, text: str = "", *, once: bool = False) -> None:
    """A line for the place (``file:function``), then the message if there is one: kernel/panic.c:__warn."""
    if once and not k.warn_once(place):
        return
    k.hw.log(f"WARNING: at {place}", "warn")
    if text:
        k.hw.log(text, "warn")
