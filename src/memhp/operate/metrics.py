"""Memory blocks as Prometheus text for node_exporter's textfile collector.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterable, Iterator

from memhp.operate.blocks import BlocksDocument

Sample = tuple[dict[str, str], int]


def metrics(document: BlocksDocument, largest_safe_step: int | None) -> str:
    """All gauges, each with its HELP and TYPE; what is not known is left out."""
    return "".join(f"{line}\n" for line in _lines(document, largest_safe_step))


def _lines(document: BlocksDocument, largest_safe_step: int | None) -> Iterator[str]:
    blocks = Counter[tuple[str, str, str]]()
    for each in document.ranges:
        zone = each.zones[0] if each.zones and each.state == "online" else ""
        node = ",".join(map(str, each.nodes))
        blocks[each.state, zone, node] += each.count
    yield from _gauge(
        "memhp_memory_blocks",
        "Memory blocks by state, by zone where they are online, and by node.",
        (
            ({"state": state, "zone": zone, "node": node}, count)
            for (state, zone, node), count in sorted(blocks.items())
        ),
    )
    yield from _gauge("memhp_memory_block_size_bytes", "Size of a memory block.", [({}, document.block_size)])
    for name, text in (("present", "Memory that a zone has."), ("free", "Free memory of a zone's buddy lists.")):
        yield from _gauge(
            f"memhp_zone_{name}_bytes",
            text,
            [({"node": str(zone.node), "zone": zone.zone}, getattr(zone, name)) for zone in document.zones],
        )
    known = (
        ("memhp_movable_ratio_percent", "ZONE_MOVABLE to all other memory.", document.movable_ratio),
        ("memhp_memmap_bytes", "Struct pages of all memory that is present.", document.memmap),
        ("memhp_largest_safe_step_bytes", "Memory that can be added in one step now, rehearsed.", largest_safe_step),
    )
    for name, text, value in known:
        if value is not None:
            yield from _gauge(name, text, [({}, value)])


def _gauge(name: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    found = list(samples)
    if not found:
        return
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} gauge"
    for labels, value in found:
        told = ",".join(f'{label}="{_escaped(each)}"' for label, each in labels.items())
        yield f"{name}{{{told}}} {value}" if told else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
