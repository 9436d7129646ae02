"""A patch tried out: its functions stand in for the kernel's, wherever those are called from, and only meanwhile."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from pathlib import Path
from shlex import split

import pytest
from msgspec import structs

from memhp.errors import BadInput
from memhp.explore.case import Case
from memhp.explore.cases import CASES
from memhp.explore.engine.search import search
from memhp.explore.explored import Explored, How, explore
from memhp.explore.patch import Replaced, _functions, _names, _target, original, patched, under_patch
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base import core
from memhp.linux.drivers.virtio.virtio_mem_fake_offline import OnlinePages
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm import page_alloc, vmalloc
from memhp.linux.state import Kernel
from memhp.report.trace import facts, replay_command
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import MachineText
from memhp.units import GiB

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_patch.py"
RACE = ("sysfs-write-vs-remove", "lock-waited-for")
HEAD = "from memhp.explore.patch import original, replaces\n"
SYSFS_LOCK = "drivers/base/core.c:lock_device_hotplug_sysfs"
FREEING = "mm/page_alloc.c:free_one_page"
ADDING = "mm/memory_hotplug.c:__add_memory"
SPANS = "include/linux/memory_hotplug.h:zone_span_writelock"
WATERMARK = "mm/page_alloc.c:zone_watermark_fast"


def decided() -> Explored:
    return explore(*RACE)


def written(folder: Path, text: str) -> Path:
    file = folder / "patch.py"
    file.write_text(HEAD + text, encoding="utf-8")
    return file


def booted() -> Kernel:
    config = machine_spec(MachineText(preset="x86-vm")).config
    return start_kernel(MachineSpec("small", config, (Ram(config.port.ram_start, GiB),)))


def test_a_write_that_only_tries_for_the_lock_ends_the_deadlock() -> None:
    code = core.lock_device_hotplug_sysfs.__code__
    found = under_patch([EXAMPLE], decided)
    assert found.verdict == "safe" and found.as_known
    assert found.patch == {SYSFS_LOCK: str(EXAMPLE)}
    assert any(line == f"patched: {SYSFS_LOCK}, from {EXAMPLE}" for line in facts(found))
    assert core.lock_device_hotplug_sysfs.__code__ is code
    assert decided().verdict == "broken"


def test_a_patch_that_still_waits_is_still_a_deadlock_and_its_trace_can_be_replayed(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        f"@replaces({SYSFS_LOCK!r})\ndef f(k):\n    k.hw.lock('device_hotplug_lock')\n    return True\n",
    )
    found = under_patch([file], decided)
    assert (found.verdict, found.as_known, found.current) == ("broken", False, False)
    assert found.trace is not None and f"--patch {file} --replay" in replay_command(found, found.trace)


def test_a_patch_may_call_what_it_replaces(tmp_path: Path) -> None:
    place = "mm/vmalloc.c:vfree"
    file = written(
        tmp_path,
        f"@replaces({place!r})\ndef f(k, tag):\n    k.hw.log(f'vfree {{tag}}')\n    original({place!r})(k, tag)\n",
    )
    k = booted()
    vmalloc.vmalloc(k, k.config.page_size, "area")
    bound_before = vmalloc.vfree
    with patched([file]) as told:
        assert told == {place: str(file)}
        bound_before(k, "area")
    assert k.hw.log_lines[-1].text == "vfree area"
    assert "area" not in k.statics(vmalloc.Vmalloc).vmap_areas
    with pytest.raises(BadInput, match="does not replace"):
        original(place)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\n", r"patch.py: marks no function"),
        ("@replaces('mm/nothing.c:here')\ndef f(k): ...\n", "no function stands for 'mm/nothing.c:here'"),
        ("@replaces('drivers/base/core.c:lock_device_hotplug_sys')\ndef f(k): ...\n", f"did you mean {SYSFS_LOCK}"),
        (
            f"@replaces({SYSFS_LOCK!r})\ndef f(kernel): ...\n",
            r"f: wanted a function of \(k\), .* and got one of \(kernel\)",
        ),
        (f"@replaces({SYSFS_LOCK!r})\nasync def f(k): ...\n", "f: wanted a function, .*: calling a coroutine"),
        (f"@replaces({SYSFS_LOCK!r})\ndef f(k): return (i for i in ())\n", "f: gave a generator, of which nothing has"),
        (f"@replaces({SYSFS_LOCK!r})\ndef f(k):\n    import sys\n    sys.exit(0)\n", r"patch.py:5: .* SystemExit: 0"),
        (f"@replaces({WATERMARK!r})\ndef f(zone, kept, order, count): return 0\n", "patch.py:2: f: with the patch: Ke"),
        (f"@replaces({SYSFS_LOCK!r})\ndef f(k): ...\n@replaces({SYSFS_LOCK!r})\ndef g(k): ...\n", "replaced twice"),
        ("x = \n", r"patch.py:2: SyntaxError"),
        ("@replaces(7)\ndef f(k): ...\n", r"patch.py:2: replaces\(\): wanted a place, as text, and got 7"),
        ("@replaces\ndef f(k): ...\n", r"patch.py:2: replaces\(\): wanted a place, as text, and got <function f"),
        (f"@replaces({SYSFS_LOCK!r})\nclass F: ...\n", r"patch.py:2: replaces\(\): wanted a function, and got a type"),
        (f"class F:\n    @replaces({SYSFS_LOCK!r})\n    def f(k): ...\n", "patch.py:3: .* outside of classes"),
        (f"@replaces({FREEING!r})\n@replaces({SYSFS_LOCK!r})\ndef f(k): ...\n", "stands in for another one already"),
        (
            f"@replaces({FREEING!r})\ndef f(k, spans, where): ...\n",
            rf"patch.py:2: f: 2 functions of memhp stand for .* \(say which: @replaces\('{FREEING}', 'free_pages'\)"
            rf" or @replaces\('{FREEING}', 'free_reserved'\)\)",
        ),
        (f"@replaces({FREEING!r}, 'free')\ndef f(k): ...\n", "no function of memhp by the name of 'free' stands for"),
        (f"@replaces({SYSFS_LOCK!r})\ndef f(k):\n    while True: len('')\n", r"patch.py:4: .* did nothing that others"),
        (f"@replaces({SYSFS_LOCK!r})\ndef f(k):\n    return k.nothing\n", r"patch.py:4"),
        (f"@replaces({ADDING!r})\ndef f(k, nid, start, size, flags=7):\n    a\n", "patch.py:4: with the patch: Nam"),
        (
            f"@replaces({ADDING!r})\ndef f(k, nid, start, size, flags): ...\n",
            "2: f: wanted default values for flags, as mm",
        ),
        (
            f"@replaces({ADDING!r})\ndef f(k, nid, size, start, flags=0): ...\n",
            r"wanted a function of \(k, nid, start, s",
        ),
        (f"@replaces({SPANS!r})\ndef f(k, zone): ...\n", "patch.py:2: f: wanted a function with a yield, as include/l"),
    ],
)
def test_a_patch_that_cannot_be_used_is_told_with_its_place_and_gives_no_verdict(
    tmp_path: Path, text: str, told: str
) -> None:
    soon = How(step_seconds=3)
    with pytest.raises(BadInput, match=told):
        under_patch([written(tmp_path, text)], lambda: explore(*RACE, how=soon))


@pytest.mark.parametrize("around", ["", "@contextmanager\n"])
def test_a_patch_of_a_context_manager_is_a_generator_or_one_itself(tmp_path: Path, around: str) -> None:
    text = f"from contextlib import contextmanager\n@replaces({SPANS!r})\n{around}def f(k, zone):\n    yield\n"
    race = "zone-span-vs-allocation", "span-seqlock"
    found = under_patch([written(tmp_path, text)], lambda: explore(*race, patched=True))
    assert found.verdict == "broken" and found.reason is not None and "bad_range" in found.reason
    assert explore(*race).verdict == "safe"


def test_a_patch_that_goes_by_more_than_the_kernel_gives_no_verdict(tmp_path: Path) -> None:
    once = f"tries = []\n@replaces({SYSFS_LOCK!r})\ndef f(k):\n    tries.append(1)\n    return len(tries) > 1\n"
    with pytest.raises(BadInput, match=r"patch.py: code of the race changes tries"):
        under_patch([written(tmp_path, once)], lambda: explore(*RACE, patched=True))


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_every_race_goes_by_its_kernel_alone(one: Case) -> None:
    program = one.program(one.variants[-1].name)
    verdict = search(replace(program, of_user=True).run(), replace(one.limits, executions=5))
    assert verdict.coverage.executions + verdict.coverage.too_long > 0


@pytest.mark.parametrize("name", ["free_pages", "mm.page_alloc.free_pages", "memhp.linux.mm.page_alloc.free_pages"])
def test_where_two_functions_stand_for_one_of_the_kernel_the_python_name_says_which_is_replaced(
    tmp_path: Path, name: str
) -> None:
    marks = f"{FREEING!r}, {name!r}"
    does = f"    k.hw.log('freed')\n    original({marks})(k, spans, where)\n"
    file = written(tmp_path, f"@replaces({marks})\ndef f(k, spans, where):\n{does}")
    k, other = booted(), page_alloc.free_reserved.__code__
    pages = page_alloc.alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL, "test"), where="test")
    with patched([file]) as told:
        assert told == {f"{FREEING} ({name})": str(file)}
        assert page_alloc.free_reserved.__code__ is other
        page_alloc.free_pages(k, pages, "test")
        with pytest.raises(BadInput, match="2 functions of memhp stand for"):
            original(FREEING)
    assert k.hw.log_lines[-1].text == "freed"


def test_every_function_that_shares_its_place_can_be_named() -> None:
    for place, standing in _functions().items():
        for name in _names(standing):
            assert _target(Replaced(place, name), "here") in standing


def test_where_two_files_replace_the_same_nothing_is_replaced(tmp_path: Path) -> None:
    code = core.lock_device_hotplug_sysfs.__code__
    other = written(tmp_path, f"@replaces({SYSFS_LOCK!r})\ndef f(k): ...\n")
    with pytest.raises(BadInput, match="replaced twice"):
        under_patch([EXAMPLE, other], decided)
    assert core.lock_device_hotplug_sysfs.__code__ is code


PLACES = (SYSFS_LOCK, "mm/vmalloc.c:vfree")
TWICE = "@replaces({!r})\ndef f(k): ...\n\n@replaces({!r})\ndef f(k, tag): ...\n".format(*PLACES)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TWICE, r":2: f: is marked, and .* by that name in the end is the function at .*patch.py:5 \(give each"),
        (TWICE + "f = 7\n", r":2: f: is marked, and what the file has by that name in the end is a int"),
        (f"@replaces({SYSFS_LOCK!r})\ndef f(k): ...\ndel f\n", ":2: f: is marked, .* in the end is nothing"),
        (
            f"from functools import cache\n@cache\n@replaces({SYSFS_LOCK!r})\ndef f(k): ...\n",
            ":3: f: .* is a _lru_cach",
        ),
    ],
)
def test_a_marked_function_that_its_file_has_lost_is_an_error(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(BadInput, match=rf"patch.py{told}"):
        under_patch([written(tmp_path, text)], decided)


def test_marked_functions_work_wherever_the_file_keeps_them(tmp_path: Path) -> None:
    make = "def make(place):\n    @replaces(place)\n    def f(k): return True\n    return f\n"
    lock = "device_hotplug_lock"
    kept = f"KEPT = {{'a': make({SYSFS_LOCK!r})}}\nreplaces('mm/vmalloc.c:vfree')(lambda k, tag: k.hw.log(tag))\n"
    file = written(tmp_path, make + kept)
    with patched([file]) as told:
        assert told == dict.fromkeys(PLACES, str(file))
        k = booted()
        assert core.lock_device_hotplug_sysfs(k) and lock not in k.hw.locks
        vmalloc.vfree(k, "area")
    assert k.hw.log_lines[-1].text == "area"


def test_what_a_decorator_made_of_a_marked_function_is_what_stands_in(tmp_path: Path) -> None:
    around = "from functools import wraps\ndef around(f):\n    @wraps(f)\n    def g(k): return not f(k)\n    return g\n"
    file = written(tmp_path, f"{around}@around\n@replaces({SYSFS_LOCK!r})\ndef f(k):\n    return True\n")
    with patched([file]):
        assert core.lock_device_hotplug_sysfs(booted()) is False


def test_a_file_may_be_a_race_and_a_patch(tmp_path: Path) -> None:
    race = "from memhp.explore.cases.sysfs_write_vs_remove import CASE\n"
    file = written(tmp_path, race + EXAMPLE.read_text(encoding="utf-8"))
    assert explore(str(file), RACE[1]).verdict == "broken"
    assert under_patch([file], lambda: explore(str(file), RACE[1], patched=True)).verdict == "safe"


def test_a_method_that_stands_for_a_function_of_the_kernel_is_replaced_like_one(tmp_path: Path) -> None:
    place = "drivers/virtio/virtio_mem.c:virtio_mem_online_page_cb"
    file = written(
        tmp_path,
        f"@replaces({place!r})\ndef f(self, k, pfn, nr_pages):\n    k.hw.log('asked')\n"
        f"    original({place!r})(self, k, pfn, nr_pages)\n",
    )
    k = booted()
    onlining = OnlinePages()
    page = page_alloc.alloc_pages(k, 0, 0, owner=Owner(Use.DEVICE), where="t")[0]
    with patched([file]) as told:
        assert told == {place: str(file)}
        onlining(k, page.start, 1)
    assert k.hw.log_lines[-1].text == "asked"
    assert k.hw.owners.get(page.start) == Owner(Use.FREE)


def test_what_a_with_statement_enters_is_entered_by_the_patch_as_well(tmp_path: Path) -> None:
    place, name = "kernel/workqueue.c:process_one_work", "work_taken_up"
    file = written(
        tmp_path,
        f"@replaces({place!r}, {name!r})\ndef f(k, vm):\n    k.hw.log('taken up')\n"
        f"    with original({place!r}, {name!r})(k, vm) as taken:\n        yield taken\n",
    )
    found = under_patch([file], lambda: explore("online-vs-unplug", "sub-block-fill-offline-BUSY"))
    assert found.verdict == explore("online-vs-unplug", "sub-block-fill-offline-BUSY").verdict


def test_the_command_that_replays_can_be_given_to_a_shell() -> None:
    found = decided()
    assert found.trace is not None
    odd = structs.replace(found, name="my races/a.py", variant='it\'s "q" $x', choices={"a b": "c"})
    words = split(replay_command(odd, found.trace))
    assert words[:6] == ["memhp", "explore", "my races/a.py", "--variant", 'it\'s "q" $x', "--configuration"]
    assert words[7:] == ["--choice", "a b=c", "--replay", found.trace.schedule]
