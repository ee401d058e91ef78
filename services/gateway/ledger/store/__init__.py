"""What the ledger keeps: the only SQL on quotas, their balances, the ledger's lines and prices."""
