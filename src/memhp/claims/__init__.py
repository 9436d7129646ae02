"""The claims and questions of the source documents, each with a verdict that is computed when it is asked for."""
# SPDX-License-Identifier: GPL-2.0-or-later
