"""JSON as a contract: each command's document is what its published schema says, in bytes, with version and verdict."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from captures import DATA
from json_schemas import wrong, wrong_for
from memhp.cli.main import COMMANDS, main
from memhp.cli.output import json_bytes
from memhp.conform.compare import Comparison, Detail
from memhp.conform.life_results import Lives
from memhp.report.conform import document as conformed
from memhp.report.documents import DOCUMENTS, json_schema
from memhp.report.json_hex import hexadecimal
from memhp.twin.boot import boot
from memhp.twin.control import answer

TABLES = DATA / "ptcores" / "x86_64-7.2.13+deb14-cloud-amd64-virtio-mem-4level" / "0-before" / "pt.elf.xz"
CAPTURE = "tests/data/captures/arm64-6.12.107+deb13-arm64-kmem-map-ram-mom0.tar.xz/3-online"
RUNS = {
    "rehearse": ["rehearse", "--machine", "x86-vm", "--plug", "128M", "--online", "movable", "--unplug"],
    "plan": ["rehearse", "--machine", "riscv-vm", "--plan", "1G"],
    "matrix": ["matrix", "--arch", "riscv64", "--profile", "linux-6.12", "--va-bits", "39", "--jobs", "1"],
    "explore": ["explore", "ptdump-vs-vmalloc-huge", "--variant", "no-lock"],
    "replay": ["explore", "ptdump-vs-vmalloc-huge", "--variant", "no-lock", "--replay", "b2"],
    "races": ["races", "pagemap-lookup-vs-unmap", "--arch", "riscv64", "--jobs", "1"],
    "claims": ["claims", "rv-3"],
    "geometry": ["geometry"],
    "memmap": ["geometry", "--memmap-on-memory"],
    "blocks": ["blocks", "--machine", "tests/data/lsmem/s390-zvm-6g.tar.bz2"],
    "why": ["why", "12", "--machine", CAPTURE],
    "host-plan": ["plan", "--evacuate", "dax0.0", "--machine", CAPTURE],
    "lint": ["lint", "--machine", CAPTURE],
    "choices": ["choices"],
    "fixes": ["fixes", "--kernel", "6.1.100"],
    "pagetables": ["pagetables", str(TABLES), "--summary"],
}
CHECKED_ELSEWHERE = {"example", "guest", "conform", "capture", "device", "apply", "vm", "twin"}
"""Commands whose documents want real kernels; and those that print none."""
WITHOUT = {"schema", "completion", "man"}


def document(args: list[str], capfd: pytest.CaptureFixture[str], option: str = "--json") -> dict[str, Any]:
    assert main([*args, option]) in (0, 1)
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


@pytest.mark.parametrize("run", RUNS)
def test_a_document_is_what_its_schema_says(run: str, capfd: pytest.CaptureFixture[str]) -> None:
    args = RUNS[run]
    found = document(args, capfd)
    assert wrong_for(found, args[0]) == []
    assert found["schema"] == 1
    assert found["verdict"].isalpha()
    msgspec.convert(found, DOCUMENTS[args[0]])


def test_documents_of_captures_and_guests_are_what_their_schemas_say(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["rehearse", "--machine", "x86-vm", "--plug", "1G", "--sysroot", str(tmp_path / "root")]) == 0
    capfd.readouterr()
    runs = {
        "explore list": ["explore"],
        "explore variants": ["explore", "vmalloc-fault"],
        "example": ["example"],
        "capture": ["capture", str(tmp_path / "root"), "--out", str(tmp_path / "capture")],
        "guest list": ["guest", "list"],
        "guest doctor": ["guest", "doctor"],
    }
    for name, args in runs.items():
        found = document(args, capfd)
        assert wrong_for(found, name) == [], name
        msgspec.convert(found, DOCUMENTS[name])


def test_a_comparison_is_what_its_schema_says() -> None:
    details = [Detail(step="0-now", fact="MemTotal", expected=1, got="2", verdict="differing")]
    compared: dict[str, Comparison | str] = {"a": Comparison(facts=2, equal=1, details=details), "b": "no"}
    said = json_bytes(conformed(compared, Lives(lives=2, unfinished=["too slow"]), ["steps = []"]))
    found = json.loads(said)
    assert wrong_for(found, "conform") == []
    assert (found["verdict"], found["differing"], found["skipped"]) == ("differs", 1, {"b": "no"})
    assert found["machines"] == [{"name": "a", "facts": 2, "equal": 1, "differing": 1, "incomparable": 0}]
    assert (found["lives"]["drawn"], found["lives"]["finished"]) == (2, 1)


def test_the_documentation_lists_every_verdict_each_one_word() -> None:
    page = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    listed: dict[str, set[str]] = {}
    for commands, verdicts in re.findall(r"^\| (`.*) \| (.*) \|$", page, re.M):
        for command in re.findall(r"`([a-z ]+)`", commands):
            listed.setdefault(command, set()).update(re.findall(r"`([a-z-]+)`", verdicts))
    for name in DOCUMENTS:
        schema = json_schema(name)
        verdicts = schema["$defs"][schema["$ref"].rpartition("/")[2]]["properties"]["verdict"]["enum"]
        assert {*verdicts} <= listed[name if name in listed else name.partition(" ")[0]], name


def test_an_answer_of_a_twin_is_what_its_schema_says(tmp_path: Path) -> None:
    machine = boot("x86-vm", step=None, speed=0.0).twin
    asked = {b'{"do": "plug", "size": "128M"}': "done", b'{"do": "offline", "blocks": [0]}': "refused"}
    for line, verdict in {**asked, b'{"do": "status", "since": 0}': "done"}.items():
        found = json.loads(json_bytes(answer(machine, line)))
        assert wrong_for(found, "twin ctl") == []
        assert found["verdict"] == verdict
    assert found["record"][0].keys() >= {"number", "time_ns", "what", "path"}


def test_the_validator_finds_what_is_wrong() -> None:
    schema = json_schema("claims")
    fine = {"schema": 1, "verdict": "expected", "claims": []}
    assert wrong(fine, schema, schema) == []
    for bad in ({**fine, "schema": 2}, {**fine, "more": 1}, {"schema": 1, "claims": []}, {**fine, "claims": [1]}):
        assert wrong(bad, schema, schema) != [], bad


def test_every_command_that_prints_json_has_a_schema(capfd: pytest.CaptureFixture[str]) -> None:
    run = {args[0] for args in RUNS.values()}
    first = {name.partition(" ")[0] for name in DOCUMENTS}
    assert set(COMMANDS) - WITHOUT == first == run | CHECKED_ELSEWHERE
    assert main(["schema"]) == 0
    assert set(json.loads(capfd.readouterr().out)) == set(DOCUMENTS)
    assert main(["schema", "matrix"]) == 0
    assert json.loads(capfd.readouterr().out) == json_schema("matrix")
    assert main(["schema", "guest", "run"]) == 0
    assert json.loads(capfd.readouterr().out) == json_schema("guest run")
    assert main(["schema", "guest", "run", "--hex"]) == 0
    assert json.loads(capfd.readouterr().out) == json_schema("guest run", hexadecimal=True)
    assert main(["schema", "--hex"]) == 0
    assert set(json.loads(capfd.readouterr().out)) == set(DOCUMENTS)
    assert main(["schema", "matricks"]) == 2
    assert "did you mean matrix?" in capfd.readouterr().err


def test_zones_are_in_bytes(capfd: pytest.CaptureFixture[str]) -> None:
    state = document(RUNS["rehearse"], capfd)["state"]
    for key in ("present", "managed"):
        assert sum(zone[key] for zone in state["zones"]) == state["memory"][key]
    normal = next(zone for zone in state["zones"] if zone["zone"] == "Normal")
    assert normal["start"] == 4 << 30


def test_a_race_is_told_by_its_schedule_and_a_trace_is_one_shape(capfd: pytest.CaptureFixture[str]) -> None:
    rows = document(["races", "ptdump-vs-vmalloc-huge", "--variant", "no-lock", "--jobs", "1"], capfd)["rows"]
    row = next(row for row in rows if row["verdict"] == "broken")
    where = ["--configuration", row["configuration"]]
    small = document([*RUNS["explore"], *where], capfd)
    replayed = document([*RUNS["explore"], *where, "--replay", row["schedule"]], capfd)
    assert replayed["trace"]["schedule"] == row["schedule"]
    assert (replayed["verdict"], replayed["reason"].split(":")[0]) == ("broken", small["reason"].split(":")[0])
    assert replayed["trace"].keys() == small["trace"].keys()


def test_addresses_that_not_every_reader_holds_are_text_on_request(capfd: pytest.CaptureFixture[str]) -> None:
    machine = document(RUNS["rehearse"], capfd)["machine"]
    assert machine["page_offset"] == 0xFFFF888000000000
    hexed = document(RUNS["rehearse"], capfd, "--json=hex")
    text = hexed["machine"]
    assert text["page_offset"] == "0xffff888000000000"
    assert text["pluggable_end"] == machine["pluggable_end"] < 1 << 53
    assert hexed == hexadecimal(document(RUNS["rehearse"], capfd))


def test_the_schema_of_hexadecimal_documents_takes_no_others() -> None:
    plain, hexed = json_schema("rehearse"), json_schema("rehearse", hexadecimal=True)
    machine = {"$ref": "#/$defs/MachineResult"}
    fields = plain["$defs"]["MachineResult"]["properties"]
    known = {"integer": 7, "string": "x", "array": []}
    fine = {name: known[kind["type"]] for name, kind in fields.items()}
    large = {**fine, "page_offset": 0xFFFF_8880_0000_0000}
    text = {**fine, "page_offset": "0xffff888000000000"}
    assert wrong(large, machine, plain) == wrong(text, machine, hexed) == wrong(fine, machine, hexed) == []
    assert wrong(text, machine, plain) != []
    for bad in (large, {**fine, "page_offset": "0xff"}, {**fine, "page_offset": "FFFF888000000000"}):
        assert wrong(bad, machine, hexed) != []
