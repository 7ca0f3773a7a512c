"""Orders and their life.

Reading order: order, specs → states → records → plan → ledger (the promise; `redis_ledger` and `memory_ledger` keep it)
→ submit → execute.
Beside them: manifest/ (orders line by line) → items (which pictures an order is); estimate.
"""
