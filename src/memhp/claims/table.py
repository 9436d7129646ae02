"""Every claim and question, in the order of the documents, and what rehearsals turned up beside them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import table_arm64, table_devices, table_findings, table_memmap, table_riscv
from memhp.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = (
    *table_riscv.CLAIMS,
    *table_arm64.CLAIMS,
    *table_memmap.CLAIMS,
    *table_devices.CLAIMS,
    *table_findings.CLAIMS,
)
