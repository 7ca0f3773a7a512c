"""WHAT the work is: no Celery, no environment, no process, and no TensorFlow outside `gan/`.

Reading order: errors, clock → storage → jobs (specs, plan, ledger, execute) → generation → datasets → gan.
"""
