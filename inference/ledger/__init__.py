"""From runs to records of the ledger."""
