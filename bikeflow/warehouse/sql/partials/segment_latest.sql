-- The newest row of each station within the segment. max_by keeps one row a station in memory, where a window would
-- keep the whole segment; a station is in one raw file once at most, so that the three columns leave no tie.
SELECT unnest(max_by(segment, (segment."timestamp", segment.file_timestamp, segment.s3_source_key)))
FROM read_parquet($file, hive_partitioning = false) AS segment
WHERE record_type = 'station'
GROUP BY station_id
