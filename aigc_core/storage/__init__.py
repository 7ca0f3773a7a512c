"""Bytes under keys. `object_store.py` is the promise, `s3.py` and `memory.py` keep it; `layout.py` names every key."""
