"""The only SQL on quotas, their balances, the ledger's entries and prices."""
