"""From a raw file in the store to written segments: watcher, reconciliation, queue, processors.

It imports `segments` and what lies below it.
"""
