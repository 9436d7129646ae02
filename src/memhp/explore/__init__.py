"""The explorer: every interleaving of threads that share memory, by depth-first search with partial-order reduction.

What is explored is a *run* (:class:`memhp.explore.op.Run`): threads, each with the operation that it will do next,
which can be taken one step on or back again. There are two kinds: plain functions over a small shared memory
(:mod:`memhp.explore.program`), and kernel code on a machine, with the explorer behind its doors
(:mod:`memhp.explore.doors`). The searches know neither; they see operations.
"""
# SPDX-License-Identifier: GPL-2.0-or-later
