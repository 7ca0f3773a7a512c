"""Telling other systems that an order has ended: signed HTTP requests as in the Standard Webhooks specification.

Reading order: sign → post → deliveries → announce. No Celery here; workers/webhooks.py calls it.
"""
