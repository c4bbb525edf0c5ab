"""Money: budgets, holds, the double-entry ledger, prices, margins, reports and reconciliation.

Every function that takes a `connection` is one step of a transaction that its caller opens and commits.
"""
