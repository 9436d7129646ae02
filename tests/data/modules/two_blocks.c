// SPDX-License-Identifier: GPL-2.0-or-later
/* Adds two memory blocks apart, each with its struct pages in itself, and removes both in one call. */
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/module.h>

static ulong at;
module_param(at, ulong, 0444);

static int __init two_blocks_init(void)
{
	u64 size = memory_block_size_bytes();
	int first = add_memory(0, at, size, MHP_MEMMAP_ON_MEMORY);
	int second = add_memory(0, at + size, size, MHP_MEMMAP_ON_MEMORY);

	pr_info("two_blocks: block size %llx add %d %d\n", size, first, second);
	return first || second ? -EIO : 0;
}

static void __exit two_blocks_exit(void)
{
	pr_info("two_blocks: remove %d\n", remove_memory(at, 2 * memory_block_size_bytes()));
}

module_init(two_blocks_init);
module_exit(two_blocks_exit);
MODULE_LICENSE("GPL");
