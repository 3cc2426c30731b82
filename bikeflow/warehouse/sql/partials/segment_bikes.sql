-- The free bikes of the segment's newest snapshot: none where that snapshot saw only stations.
SELECT *
FROM read_parquet($file, hive_partitioning = false)
WHERE record_type = 'bike'
    AND file_timestamp = (SELECT max(file_timestamp) FROM read_parquet($file, hive_partitioning = false))
