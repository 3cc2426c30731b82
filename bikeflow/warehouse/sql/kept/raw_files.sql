-- What each raw file of a segment gave: the record in the segment's footer, and counts of its rows.
SELECT
    file."key" AS s3_source_key,
    coalesce(
        file_timestamp,
        try_strptime(regexp_extract(file."key", 'wrm_stations_([^/]*)\.txt$', 1), '%Y-%m-%d_%H-%M-%S')
    ) AS file_timestamp,
    file.size AS size_bytes,
    file.md5,
    file."lines",
    file."rows",
    file.rejected,
    coalesce(stations, 0) AS stations,
    coalesce(bikes, 0) AS bikes,
    coalesce(flagged, 0) AS flagged
FROM (
    SELECT
        unnest(
            from_json(
                decode(value),
                '[{"key": "VARCHAR", "size": "BIGINT", "md5": "VARCHAR", "lines": "BIGINT", "rows": "BIGINT",
                   "rejected": "BIGINT"}]'
            )
        ) AS file
    FROM parquet_kv_metadata($file)
    WHERE key = 'bikeflow.files'
)
LEFT JOIN (
    SELECT
        s3_source_key,
        any_value(file_timestamp) AS file_timestamp,
        count(*) FILTER (WHERE record_type = 'station') AS stations,
        count(*) FILTER (WHERE record_type = 'bike') AS bikes,
        count(*) FILTER (WHERE len(quality_flags) > 0) AS flagged
    FROM read_parquet($file, hive_partitioning = false)
    GROUP BY s3_source_key
) AS counts ON file."key" = counts.s3_source_key
ORDER BY file."key"
