"""Files of the machine that this runs on: attributes with few system calls, and the kernel's log."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os

LONG = "\0"
"""What :func:`attribute` gives for a file that is to be read in another way."""
_ATTRIBUTE_SIZE = 4096
"""Bytes of the longest attribute (``fs/sysfs/file.c``: a page)."""


def attribute(within: int, path: str) -> str | None:
    """The text of a small file below an open folder, None where it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=within)
    except OSError:
        return None
    try:
        data = os.read(fd, _ATTRIBUTE_SIZE)
        return data.decode("ascii") if len(data) < _ATTRIBUTE_SIZE else LONG
    except (OSError, UnicodeDecodeError):
        return LONG
    finally:
        os.close(fd)


def kernel_log() -> str | None:
    """The live kernel's log as ``dmesg`` prints it, from /dev/kmsg (``kernel/printk/printk.c``); None if forbidden."""
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    out: list[str] = []
    try:
        while True:
            try:
                record = os.read(fd, 8192).decode("utf-8", "replace")
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue
            head, _, message = record.partition(";")
            microseconds = int(head.split(",")[2])
            seconds, rest = divmod(microseconds, 1_000_000)
            out.append(f"[{seconds:5d}.{rest:06d}] {message.partition(chr(10))[0]}\n")
    finally:
        os.close(fd)
    return "".join(out)
