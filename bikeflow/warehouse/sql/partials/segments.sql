-- One row a segment: how many rows it holds, and its newest snapshot (of two at the same second, the one whose key
-- sorts last).
SELECT
    CAST(sum("rows") AS BIGINT) AS "rows",
    max(file_timestamp) AS newest_snapshot,
    max_by(s3_source_key, (file_timestamp, s3_source_key)) AS newest_source_key
FROM (
    SELECT file_timestamp, s3_source_key, count(*) AS "rows"
    FROM read_parquet($file, hive_partitioning = false)
    GROUP BY ALL
)
