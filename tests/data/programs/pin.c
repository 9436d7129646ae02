// SPDX-License-Identifier: GPL-2.0-or-later
/* pin NODE MIB LO HI [FILE]: touch MIB MiB of a file, or of no file, on a node (-1: any), pin for long the first page
 * whose PFN is from LO to below HI, give up the rest, and keep it. Built with: gcc -static -O1 -D_GNU_SOURCE pin.c */
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/mman.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>
#include <stdint.h>
#include <signal.h>
#include <sys/uio.h>
int main(int argc, char **argv)
{
	struct io_uring_params p;
	struct iovec v;
	long size = atol(argv[2]) << 20;
	unsigned long lo = strtoul(argv[3], 0, 0), hi = strtoul(argv[4], 0, 0), mask = 1UL << (atoi(argv[1]) & 63);
	int fd = -1;
	if (argc > 5) { fd = open(argv[5], O_RDWR | O_CREAT, 0600); ftruncate(fd, size); }
	char *m = mmap(0, size, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
	if (*argv[1] != '-') {
		madvise(m, size, MADV_NOHUGEPAGE);
		if (syscall(__NR_mbind, m, size, 2, &mask, 64, 0)) printf("mbind: %d\n", errno);
	}
	memset(&p, 0, sizeof p);
	int ring = syscall(__NR_io_uring_setup, 4, &p), pm = open("/proc/self/pagemap", O_RDONLY);
	if (ring < 0) { printf("io_uring_setup: %d\n", errno); return 1; }
	for (long at = 0; at < size; at += 4096) {
		uint64_t e = 0;

		m[at] = 1;
		pread(pm, &e, 8, (uintptr_t)(m + at) / 4096 * 8);
		e &= (1ULL << 55) - 1;
		if (e < lo || e >= hi) continue;
		v.iov_base = m + at; v.iov_len = 4096;
		if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &v, 1)) { printf("register: %d\n", errno); return 1; }
		pread(pm, &e, 8, (uintptr_t)(m + at) / 4096 * 8);
		e &= (1ULL << 55) - 1;
		if (fd < 0) { if (at) munmap(m, at); }
		else { munmap(m, size); if (at) fallocate(fd, 3, 0, at); }
		printf("pinned PFN 0x%llx\n", (unsigned long long)e);
		fflush(stdout);
		signal(SIGBUS, SIG_IGN);
		for (;;) pause();
	}
	printf("no such page\n");
	return 1;
}
