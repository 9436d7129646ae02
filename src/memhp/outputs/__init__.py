"""What a run writes: files and folders of the user's, checked before anything runs, and written in one place."""
# SPDX-License-Identifier: GPL-2.0-or-later
