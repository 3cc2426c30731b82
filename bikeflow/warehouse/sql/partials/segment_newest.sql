-- All rows of the segment's newest snapshot (of two at the same second, the one whose key sorts last).
SELECT *
FROM read_parquet($file, hive_partitioning = false)
WHERE s3_source_key = (
    SELECT max_by(s3_source_key, (file_timestamp, s3_source_key))
    FROM (SELECT DISTINCT file_timestamp, s3_source_key FROM read_parquet($file, hive_partitioning = false))
)
