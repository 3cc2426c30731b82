-- One row a segment: how many rows it holds, and its newest snapshot.
SELECT
    count(*) AS "rows",
    max(file_timestamp) AS newest_snapshot
FROM read_parquet($file, hive_partitioning = false)
