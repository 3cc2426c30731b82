"""Segments: the Parquet files of a stretch of one day, how they are built from raw files, and where that is done.

It imports `feeds`, `store`, `ledger` and what lies below them.
"""
