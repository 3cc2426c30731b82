-- The newest row of each station within a month, but for the newest segments of all.
SELECT * EXCLUDE (segment)
FROM working.partials.segment_latest
WHERE rowid IN (
    SELECT arg_max(rowid, ("timestamp", file_timestamp, s3_source_key))
    FROM working.partials.segment_latest
    WHERE segment >= $first_segment
        AND segment < $next_segment
    GROUP BY station_id
)
