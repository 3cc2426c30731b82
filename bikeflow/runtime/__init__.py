"""What any asyncio service needs: logging, retries, locks, files that are replaced whole, memory, concurrency.

It knows nothing of bikes. It imports `settings` and `core`.
"""
