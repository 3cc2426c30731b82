-- The free bikes of the segment's newest snapshot: none where that snapshot saw only stations.
SELECT *
FROM read_parquet($file, hive_partitioning = false)
WHERE record_type = 'bike'
    AND s3_source_key = (
        SELECT max_by(s3_source_key, (file_timestamp, s3_source_key))
        FROM (SELECT DISTINCT file_timestamp, s3_source_key FROM read_parquet($file, hive_partitioning = false))
    )
