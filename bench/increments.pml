/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The increment race of bench/explore.py: N threads read, then write. With LOSE it is an error that one is lost. */
byte x = 0;
byte ended = 0;

active [N] proctype increment()
{
	byte seen;

	seen = x;
	x = seen + 1;
#ifdef LOSE
	d_step {
		ended++;
		assert(ended < N || x == N)
	}
#endif
}
