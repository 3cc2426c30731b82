-- What the segment's footer tells of each raw file, or of those in $only.
SELECT
    file."key" AS s3_source_key,
    file.size AS size_bytes,
    file.md5,
    file."lines",
    file."rows",
    file.rejected
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
WHERE $only IS NULL
    OR list_contains(CAST($only AS VARCHAR[]), file."key")
