"""What can be observed of a machine, in Linux's own formats: sysfs, procfs, the kernel log.

:mod:`~memhp.facts.open_source` opens a live host, a sysroot tree, a capture or a bug report; the modules named after
the files parse and render them; :mod:`~memhp.facts.observed` puts all of one moment together. Nothing here knows the
model: what the model exports is read back by the same code.
"""
# SPDX-License-Identifier: GPL-2.0-or-later
