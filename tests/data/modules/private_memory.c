// SPDX-License-Identifier: GPL-2.0-or-later
/* A device's private memory, as lib/test_hmm.c takes it: where it lies, and whether its struct pages can be read. */
#include <linux/ioport.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/numa.h>

static struct dev_pagemap pgmap;
static struct resource *res;

static vm_fault_t fault(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

#ifdef FOLIO_FREE
static void gone(struct folio *folio)
#else
static void gone(struct page *page)
#endif
{
}

static const struct dev_pagemap_ops ops = {
#ifdef FOLIO_FREE
	.folio_free = gone,
#else
	.page_free = gone,
#endif
	.migrate_to_ram = fault,
};

static int __init private_memory_init(void)
{
	void *addr;

	res = request_free_mem_region(&iomem_resource, 256UL << 20, "private_memory");
	if (IS_ERR(res)) {
		pr_info("private_memory: no region %ld\n", PTR_ERR(res));
		return PTR_ERR(res);
	}
	pr_info("private_memory: region %pr, struct page at %px\n", res, pfn_to_page(PHYS_PFN(res->start)));
	pgmap.type = MEMORY_DEVICE_PRIVATE;
	pgmap.range.start = res->start;
	pgmap.range.end = res->end;
	pgmap.nr_range = 1;
	pgmap.ops = &ops;
	pgmap.owner = THIS_MODULE;
	addr = memremap_pages(&pgmap, 0);
	pr_info("private_memory: memremap_pages %ld\n", IS_ERR(addr) ? PTR_ERR(addr) : 0);
	return IS_ERR(addr) ? PTR_ERR(addr) : 0;
}

static void __exit private_memory_exit(void)
{
	memunmap_pages(&pgmap);
	release_mem_region(res->start, resource_size(res));
	pr_info("private_memory: gone\n");
}

module_init(private_memory_init);
module_exit(private_memory_exit);
MODULE_LICENSE("GPL");
