"""Linux's files of a modelled machine, each by what its ``show`` and ``store`` do."""
# SPDX-License-Identifier: GPL-2.0-or-later
