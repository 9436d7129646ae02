"""``arch/powerpc/kexec``."""
# SPDX-License-Identifier: GPL-2.0-or-later
