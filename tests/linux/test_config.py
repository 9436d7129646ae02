"""Which kernels can exist, what follows from how they are built, and what each profile stands for."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import Field, fields, replace
from typing import Any

import pytest

from memhp.errors import BadInput
from memhp.linux.arch.arm64.choices import Arm64Profile
from memhp.linux.arch.riscv.choices import RiscvProfile
from memhp.linux.arch.x86.choices import X86Profile
from memhp.linux.config import Bases, Config, configs
from memhp.linux.profiles import PROFILES, profile
from memhp.linux.release import LAST
from memhp.units import GiB, KiB, MiB


def kernel(name: str, arch: str, page_size: int, va_bits: int, **options: Any) -> Config:
    return Config(arch, PROFILES[name], page_size, va_bits, **options)


class TestWhatExists:
    def test_arm64_pairs_page_sizes_and_widths_as_its_kconfig_does(self) -> None:
        found = {(c.page_size // KiB, c.va_bits) for c in configs(PROFILES["linux-7.2"], ["arm64"])}
        assert found == {
            (4, 39),
            (4, 48),
            (4, 52),
            (16, 36),
            (16, 47),
            (16, 48),
            (16, 52),
            (64, 42),
            (64, 48),
            (64, 52),
        }

    def test_52_bits_came_with_64k_pages_and_reached_the_others_with_lpa2(self) -> None:
        wide = {name: {c.page_size // KiB for c in configs(PROFILES[name]) if c.va_bits == 52} for name in PROFILES}
        assert wide["arm64-hotremove-v5"] == set()
        assert wide["arm64-hotremove-v7"] == wide["linux-5.13"] == {64}
        assert wide["linux-6.12"] == wide["linux-7.2"] == {4, 16, 64}

    def test_riscv_has_hotplug_as_posted_and_since_6_11(self) -> None:
        assert [name for name, each in PROFILES.items() if "riscv64" in each.arches] == [
            "riscv-hotplug-v1",
            "linux-6.12",
            "linux-7.2",
        ]

    def test_every_configuration_is_listed_once(self) -> None:
        titles = [config.title for config in configs()]
        assert len(titles) == len(set(titles))


class TestWhatFollows:
    @pytest.mark.parametrize(
        ("arch", "page_size", "va_bits", "lva", "levels"),
        [
            ("riscv64", 4 * KiB, 39, True, 3),
            ("riscv64", 4 * KiB, 57, True, 5),
            ("arm64", 16 * KiB, 36, True, 2),
            ("arm64", 64 * KiB, 52, True, 3),
            ("arm64", 64 * KiB, 52, False, 3),
            ("arm64", 4 * KiB, 52, True, 5),
            ("arm64", 4 * KiB, 52, False, 4),
            ("arm64", 16 * KiB, 52, False, 3),
            ("x86_64", 4 * KiB, 48, True, 4),
        ],
    )
    def test_levels_are_config_pgtable_levels_less_what_the_cpu_folds(
        self, arch: str, page_size: int, va_bits: int, lva: bool, levels: int
    ) -> None:
        assert kernel("linux-6.12", arch, page_size, va_bits, lva=lva).levels == levels

    def test_pageblocks_are_pmd_sized_pages_unless_the_build_caps_them(self) -> None:
        config = kernel("linux-7.2", "arm64", 64 * KiB, 48)
        assert config.pageblock_nr_pages * config.page_size == 512 * MiB
        assert replace(config, page_block_max_order=10).pageblock_order == 10

    def test_a_folded_level_is_as_large_as_a_root_entry(self) -> None:
        config = kernel("linux-6.12", "riscv64", 4 * KiB, 39)
        assert config.pud_size == config.p4d_size == config.pgdir_size == GiB

    @pytest.mark.parametrize(
        ("name", "options", "base_pages"),
        [
            ("linux-6.12", {}, True),
            ("linux-6.12", {"rodata_full": False}, False),
            ("linux-6.12", {"rodata_full": False, "kfence_early": False}, True),
            ("linux-6.12", {"bbml2": True}, True),
            ("linux-7.2", {}, True),
            ("linux-7.2", {"bbml2": True}, False),
            ("linux-7.2", {"bbml2": True, "debug_pagealloc": True}, True),
        ],
    )
    def test_arm64_maps_base_pages_where_single_pages_may_change(
        self, name: str, options: dict[str, bool], base_pages: bool
    ) -> None:
        assert kernel(name, "arm64", 4 * KiB, 48, **options).direct_map_base_pages is base_pages

    def test_only_4k_pages_get_huge_vmemmap_leaves_on_arm64(self) -> None:
        huge = {c.page_size // KiB for c in configs(PROFILES["linux-7.2"], ["arm64"]) if c.vmemmap_huge}
        assert huge == {4}

    def test_riscv_v1_maps_its_vmemmap_with_base_pages(self) -> None:
        assert not kernel("riscv-hotplug-v1", "riscv64", 4 * KiB, 57).vmemmap_huge

    def test_an_x86_cpu_without_pse_has_base_pages_everywhere(self) -> None:
        config = kernel("linux-6.12", "x86_64", 4 * KiB, 48, pse=False)
        assert (config.vmemmap_huge, config.direct_map_base_pages) == (False, True)


class TestRefused:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: kernel("linux-6.12", "sparc", 4 * KiB, 48), "no architecture 'sparc'"),
            (lambda: kernel("linux-5.13", "riscv64", 4 * KiB, 48), "linux-5.13 has no memory hotplug on riscv64"),
            (
                lambda: kernel("linux-5.13", "loongarch64", 4 * KiB, 48),
                "of linux-5.13 on loongarch64 is not known (it is from 6.12 on)",
            ),
            (lambda: kernel("linux-6.12", "riscv64", 64 * KiB, 48), "riscv64 has no 64 KiB pages (one of 4 KiB)"),
            (lambda: kernel("linux-5.13", "arm64", 4 * KiB, 52), "has no 52-bit addresses (one of 39, 48)"),
            (lambda: kernel("linux-6.12", "arm64", 4 * KiB, 48, pa_bits=52), "no 52-bit physical addresses here"),
            (lambda: kernel("riscv-hotplug-v1", "riscv64", 4 * KiB, 48, memmap_on_memory="Y"), "no memmap_on_memory"),
            (lambda: kernel("linux-5.13", "x86_64", 4 * KiB, 48, memmap_on_memory="force"), "cannot force"),
            (lambda: kernel("linux-5.13", "x86_64", 4 * KiB, 48, online_policy="auto-movable"), "no auto-movable"),
            (
                lambda: kernel("linux-6.12", "x86_64", 4 * KiB, 48, memmap_on_memory="sometimes"),
                'memmap_on_memory: cannot be "sometimes" (one of N, Y, force)',
            ),
            (
                lambda: kernel("linux-6.12", "x86_64", 4 * KiB, 48, online_policy="auto-moveable"),
                'online_policy: cannot be "auto-moveable" (did you mean auto-movable?)',
            ),
            (
                lambda: kernel("linux-6.12", "x86_64", 4 * KiB, 48, memhp_default_state="on-line"),
                'memhp_default_state: cannot be "on-line" (did you mean online?)',
            ),
            (lambda: kernel("linux-7.2", "x86_64", 4 * KiB, 48, page_block_max_order=11), "(1 to 10)"),
            (lambda: kernel("linux-6.12", "x86_64", 4 * KiB, 48, page_block_max_order=9), "cannot cap its pageblocks"),
        ],
    )
    def test_with_one_line_that_says_what_there_is(self, make: Callable[[], Config], message: str) -> None:
        with pytest.raises(BadInput) as caught:
            make().validate()
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", [6.6, None, ["6.6"]])
    def test_a_profiles_name_is_text(self, name: Any) -> None:
        with pytest.raises(BadInput, match=r"^profile: want the name of a kernel, .+ \(text, such as \"[\d.]+\"\)$"):
            profile(name)

    @pytest.mark.parametrize("name", ["5.12", "5.20", "6.6 ", "6.6.", "٦.٦", "7.99", ""])
    def test_what_no_release_is_called_is_refused(self, name: str) -> None:
        with pytest.raises(BadInput, match=f"^profile: no kernel profile .* any other release from 5.13 to {LAST}"):
            profile(name)

    def test_an_unknown_profile_lists_the_known_ones(self) -> None:
        with pytest.raises(BadInput, match="riscv-hotplug-v1, arm64-hotremove-v5"):
            profile("linux-4.4")


class TestProfilesStandForTheirSources:
    def test_the_arm64_revisions_differ_in_when_they_free_empty_vmemmap_tables(self) -> None:
        policies = {
            name: each.record(Arm64Profile).free_empty_tables
            for name, each in PROFILES.items()
            if "arm64" in each.arches
        }
        assert policies == {
            "arm64-hotremove-v5": "always",
            "arm64-hotremove-v6": "never",
            "arm64-hotremove-v7": "if-no-vmalloc-overlap",
            "linux-5.13": "floor-ceiling",
            "linux-6.12": "floor-ceiling",
            "linux-7.2": "floor-ceiling",
        }

    def test_arm64_v6_dropped_the_lock_and_split_the_descent(self) -> None:
        five, six = (PROFILES[f"arm64-hotremove-v{n}"].record(Arm64Profile) for n in (5, 6))
        assert (five.remove_lock, five.remove_passes) == ("whole-range", 1)
        assert (six.remove_lock, six.remove_passes) == ("none", 2)

    def test_only_arm64_frees_storage_after_its_flush_from_v6_on(self) -> None:
        safe = {
            (each.name, arch)
            for each in PROFILES.values()
            for arch in each.arches
            if getattr(each.arch(arch), "storage_freed", None) == "after-flush"
        }
        assert safe == {(name, "arm64") for name, each in PROFILES.items() if "arm64" in each.arches} - {
            ("arm64-hotremove-v5", "arm64")
        }

    def test_both_answers_to_new_root_entries_and_none_are_there(self) -> None:
        kernel = PROFILES["linux-7.2"]
        assert kernel.record(RiscvProfile).pgd_policy == "preallocate"
        assert kernel.record(X86Profile).pgd_policy == "sync"
        assert kernel.arch("arm64").pgd_shared

    def test_every_series_has_memblock_forget_after_the_architecture(self) -> None:
        assert {each.memblock_order for each in PROFILES.values()} == {"arch-first"}

    def test_7_2_arm64_refuses_to_split_leaves_of_what_it_removes(self) -> None:
        assert PROFILES["linux-7.2"].record(Arm64Profile).bootmem_remove == "notifier-and-split-check"
        assert PROFILES["linux-6.12"].record(Arm64Profile).bootmem_remove == "notifier"


class TestTypes:
    """From Python as from a scenario: a value of another type is refused, not taken for true or for a number."""

    @pytest.mark.parametrize("field", fields(Config), ids=lambda field: field.name)
    @pytest.mark.parametrize("value", [1.5, object, {}, [1]], ids=repr)
    def test_no_field_takes_a_value_of_another_type(self, field: Field[Any], value: Any) -> None:
        with pytest.raises(BadInput) as refused:
            replace(kernel("linux-6.12", "x86_64", 4 * KiB, 48), **{field.name: value})
        assert refused.value.where == field.name

    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            ("pse", "sometimes", 'pse: want true or false, got "sometimes"'),
            ("kasan", 1, "kasan: want true or false, got 1"),
            ("hvo", "yes", 'hvo: want true or false, got "yes"'),
            ("nr_cpus", True, "nr_cpus: want a whole number, got true"),
            ("auto_movable_ratio", "301", 'auto_movable_ratio: want a whole number, got "301"'),
            ("arch", 64, "arch: want text, got 64"),
            ("arch", "x86", "arch: no architecture 'x86' (one of riscv64, arm64, x86_64, loongarch64)"),
            ("profile", "6.12", 'profile: want a Profile, got "6.12"'),
            ("kernelcore", "1G", 'kernelcore: want a Core, got "1G"'),
            ("online_policy", "auto", 'online_policy: cannot be "auto" (one of contig-zones, auto-movable)'),
        ],
    )
    def test_a_configuration_says_what_it_wants(self, name: str, value: Any, text: str) -> None:
        with pytest.raises(BadInput) as refused:
            replace(kernel("linux-6.12", "x86_64", 4 * KiB, 48), **{name: value})
        assert str(refused.value) == text

    def test_a_boot_that_drew_text_is_refused(self) -> None:
        with pytest.raises(BadInput, match='page_offset: want a whole number, got "0x0"'):
            Bases(page_offset="0x0")  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("name", "value"),
        [("nr_cpus", 0), ("auto_movable_ratio", -1), ("fixmap_slots", -1), ("struct_page_size", 60)],
    )
    def test_a_number_that_no_kernel_has_is_refused(self, name: str, value: Any) -> None:
        """include/linux/mm.h:__mm_zero_struct_page wants 56 to 96 bytes, a multiple of 8."""
        config = replace(kernel("linux-6.12", "x86_64", 4 * KiB, 48), **{name: value})
        with pytest.raises(BadInput) as refused:
            config.validate()
        assert refused.value.where == name
