-- The newest row of each station within a month.
SELECT * EXCLUDE (segment)
FROM working.partials.segment_latest
WHERE rowid IN (
    SELECT arg_max(rowid, ("timestamp", file_timestamp, s3_source_key))
    FROM working.partials.segment_latest
    WHERE starts_with(segment, $month)
    GROUP BY station_id
)
