"""Orders and their life.

Reading order: specs → states → records → plan → ledger (the promise; `redis_ledger`, `memory_ledger` keep it)
→ submit → execute → finalise.
"""
