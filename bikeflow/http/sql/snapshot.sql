-- When the newest snapshot was taken.
SELECT newest_snapshot AS snapshot
FROM publication
