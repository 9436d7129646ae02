"""/proc/cmdline: what the kernel was booted with, and the options that decide about memory hotplug."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass

from memhp.linux.arch.registry import ports

HOTPLUG_OPTIONS = (
    "mem",
    "memmap",
    "movable_node",
    "movablecore",
    "kernelcore",
    "memhp_default_state",
    "acpi_no_memhotplug",
    "kaslr",
    "nokaslr",
    "rodata",
    "debug_pagealloc",
    "kfence.sample_interval",
    "hugetlb_free_vmemmap",
    "hugepagesz",
    "hugepages",
    "cma",
    "crashkernel",
)
"""Options outside memory_hotplug.* that change what hotplug finds or does (kernel-parameters.txt in the manuals), but
for those of one architecture."""


@dataclass(frozen=True)
class Cmdline:
    """A kernel command line: every option in order, with its value or None where it has none."""

    text: str
    options: tuple[tuple[str, str | None], ...]

    def get(self, name: str) -> str | None:
        """The last value given to an option; "" for one without a value; None where it is absent.

        ``-`` and ``_`` are the same, as in ``kernel/params.c:parameq``.
        """
        found = None
        for option, value in self.options:
            if _dash_to_underscore(option) == _dash_to_underscore(name):
                found = "" if value is None else value
        return found

    def has(self, name: str) -> bool:
        """Whether an option is there, with or without a value."""
        return self.get(name) is not None

    def hotplug(self) -> dict[str, str]:
        """The options that matter for memory hotplug, by name: HOTPLUG_OPTIONS, those of architectures, and all of
        ``memory_hotplug.*``.
        """
        own = (name for each in ports() for name in each.cmdline_options)
        wanted = {_dash_to_underscore(name) for name in (*HOTPLUG_OPTIONS, *own)}
        return {
            option: value or ""
            for option, value in self.options
            if _dash_to_underscore(option) in wanted or _dash_to_underscore(option).startswith("memory_hotplug.")
        }


def _dash_to_underscore(name: str) -> str:
    return name.replace("-", "_")


def parse(text: str) -> Cmdline:
    """A command line taken apart as ``lib/cmdline.c:next_arg`` does: at spaces outside double quotes.

    What follows ``--`` belongs to init and is left out (``kernel/params.c:parse_args``).
    """
    options: list[tuple[str, str | None]] = []
    for word in _words(text.strip()):
        if word == "--":
            break
        name, equals, value = word.partition("=")
        options.append((name.strip('"'), value.strip('"') if equals else None))
    return Cmdline(text.rstrip("\n"), tuple(options))


def _words(text: str) -> list[str]:
    words: list[str] = []
    word = ""
    quoted = False
    for char in text:
        if char.isspace() and not quoted:
            words.append(word)
            word = ""
            continue
        quoted ^= char == '"'
        word += char
    return [each for each in (*words, word) if each]
