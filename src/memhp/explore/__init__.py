"""The explorer: every interleaving of threads that share memory, by depth-first search with partial-order reduction.

What is explored is a *run* (:class:`memhp.explore.engine.op.Run`): threads, each with the operation that it will do
next, which can be taken one step on or back again. There are two kinds: plain functions over a small shared memory
(:mod:`memhp.explore.programs`), and kernel code on a machine, with the explorer behind its doors
(:mod:`memhp.explore.doors`). The engine (:mod:`memhp.explore.engine`) knows neither.
"""
# SPDX-License-Identifier: GPL-2.0-or-later
