"""Orders line by line: which pictures, each with its seed, class, format and name of its own.

Reading order: lines, matrix (files → values) → check (values → entries) → blocks (how they are stored) → read (all of it).
"""
