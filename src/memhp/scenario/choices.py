"""Profile choices by name, so that a scenario can ask what a kernel with one decision changed would do."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, get_args, get_type_hints

from memhp.errors import BadInput
from memhp.linux.choices import RECORDS
from memhp.linux.profiles import Arch, Profile
from memhp.scenario.explain import one_of, quoted


def with_choices(profile: Profile, arch: Arch, wanted: Mapping[str, object], *, where: str) -> Profile:
    """A profile with some choices changed: the architecture's own, or those that all share.

    Raises :class:`BadInput` for a choice that there is not, or a value that it cannot have.
    """
    record: Any = profile.arch(arch)
    for name, value in wanted.items():
        key = f"{where}.{name}"
        if name in {f.name for f in fields(record)}:
            record = replace(record, **{name: _checked(record, name, value, key)})
        elif name in (shared := {f.name for f in fields(profile)} - {"name", "release", "source", *RECORDS.values()}):
            profile = replace(profile, **{name: _checked(profile, name, value, key)})
        else:
            known = sorted({f.name for f in fields(record)} | shared)
            raise BadInput("there is no such choice", where=key, fix=one_of(name, known))
    return profile.with_arch(arch, record)


def _checked(record: object, name: str, value: object, where: str) -> Any:
    """A value that a choice may have; lists stand for tuples, as TOML has no others."""
    hint = get_type_hints(type(record))[name]
    if hint is bool:
        if isinstance(value, bool):
            return value
        raise BadInput(f"want true or false, got {quoted(value)}", where=where)
    options = get_args(hint)
    if isinstance(value, list):
        areas = get_args(options[0]) if options else ()
        bad = [each for each in value if each not in areas]
        if areas and not bad:
            return tuple(value)
        if areas:
            raise BadInput(f"cannot have {quoted(bad[0])}", where=where, fix=f"a list of {', '.join(areas)}")
    elif value in options:
        return value
    raise BadInput(f"cannot be {quoted(value)}", where=where, fix=one_of(str(value), map(str, options)))
