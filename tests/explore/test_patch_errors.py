"""What a patch brings about in kernel code that is no error of the kernel is told with the patch's line, no verdict."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from pathlib import Path

import pytest

from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.explore.explored import Explored, How, explore
from memhp.explore.patch import under_patch

HEAD = "import sys\nfrom itertools import repeat\nfrom memhp.explore.patch import original, replaces\n"
WALK = ("pfn-walker-vs-offline", "no-lock")
ZONES = ("node-offline-vs-zone-walk", "reset-when-offline")
LOCKED = ("sysfs-write-vs-remove", "trylock-and-restart")

UNUSED = "@replaces('mm/vmalloc.c:vfree')\ndef unused(k, tag): ...\n"
ZONE = "@replaces('mm/memory_hotplug.c:zone_for_pfn_range')\ndef f(k, online_type, nid, group, start_pfn, nr_pages):\n"
NEXT = (
    "@replaces('mm/mmzone.c:next_zone')\ndef f(k, zone):\n"
    "    return 7 if k.hw.is_watched else original('mm/mmzone.c:next_zone')(k, zone)\n"
)
ENDLESS = (
    "class Zone:\n    watermark_low = 0\n"
    "@replaces('include/linux/mmzone.h:for_each_zone')\ndef f(k):\n"
    "    return repeat(Zone) if k.hw.is_watched else original('include/linux/mmzone.h:for_each_zone')(k)\n"
)
ASTRAY = (
    "@replaces('drivers/base/core.c:lock_device_hotplug_sysfs')\ndef f(k):\n    sys.own_tries += 1\n"
    "    return k.hw.trylock(f'lock {sys.own_tries}')\n"
)
USED = "its callers must be able to use what it gives and does"
LACKS = "AttributeError: 'NoneType' object has no attribute 'nid', in mm/memory_hotplug.c:move_pfn_range_to_zone"


def written(folder: Path, text: str) -> Path:
    file = folder / "patch.py"
    file.write_text(HEAD + text, encoding="utf-8")
    return file


def decided(file: Path, race: tuple[str, str]) -> Explored:
    return under_patch([file], lambda: explore(*race, how=How(step_seconds=1), patched=True))


@pytest.mark.parametrize(
    ("text", "race", "told"),
    [
        (f"{ZONE}    return None\n", WALK, f":4: f: with the patch: {LACKS} ({USED})"),
        (f"{ZONE}    sys.exit(0)\n", WALK, ":6: with the patch: SystemExit: 0"),
        (
            f"{ZONE}    return original('mm/vmalloc.c:vfree')\n",
            WALK,
            ":6: original(): the patch does not replace 'mm/v",
        ),
        (f"{ZONE}    return (each for each in ())\n", WALK, ":4: f: gave a generator, of which nothing has run"),
        (
            f"{UNUSED}{NEXT}",
            ZONES,
            ":6: f: zone walk raised AttributeError: 'int' object has no attribute 'watermark_l",
        ),
        (ENDLESS, ZONES, ":6: f: zone walk did nothing that others could see for 1 s of processor time"),
        (ASTRAY, LOCKED, ":4: f: write to state does not go on after 'atomic memory"),
    ],
)
def test_what_a_patch_brings_about_is_told_with_the_function_of_it_that_ran_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, race: tuple[str, str], told: str
) -> None:
    monkeypatch.setattr(sys, "own_tries", 0, raising=False)
    file = written(tmp_path, text)
    with pytest.raises(BadInput) as error:
        decided(file, race)
    assert str(error.value).startswith(f"{file}{told}")


OWN = """\
from dataclasses import replace
from memhp.explore.cases.pfn_walker_vs_offline import CASE as ANOTHER

def build(variant, configuration):
    return ANOTHER.build(variant, configuration)

CASE = replace(ANOTHER, name="own", build=build)
"""


def test_in_a_race_of_a_user_s_it_is_told_with_the_line_of_both(tmp_path: Path) -> None:
    file, race = written(tmp_path, f"{ZONE}    return None\n"), tmp_path / "own.py"
    race.write_text(OWN, encoding="utf-8")
    with pytest.raises(BadInput) as error:
        decided(file, (str(race), "no-lock"))
    assert str(error.value) == f"{race}:5: {LACKS}, with {file}:4: f in place of the kernel's ({USED})"


def test_the_command_ends_as_with_any_input_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, f"{ZONE}    return None\n")
    assert main(["explore", WALK[0], "--variant", WALK[1], "--patch", str(file)]) == 2
    assert capsys.readouterr().err == f"memhp: {file}:4: f: with the patch: {LACKS} ({USED})\n"


def test_without_a_patch_a_defect_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memhp.linux.drivers.base.memory_state.zone_for_pfn_range", lambda *_, **__: None)
    with pytest.raises(AttributeError):
        under_patch([], lambda: explore(*WALK))


def test_what_whoever_looks_has_raised_is_none_of_the_patch_s(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        under_patch([written(tmp_path, NEXT)], lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(BadInput, match=r"^variant: .* has no variant 'nothing'"):
        decided(written(tmp_path, NEXT), (WALK[0], "nothing"))
