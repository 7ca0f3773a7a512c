"""WHO runs it: thin processes. One file per process; the work itself is in `aigc_core` and `serving`.

Reading order: settings → bootstrap → celery_app, queues → generation, training, maintenance, schedule → producer, cli.
"""
