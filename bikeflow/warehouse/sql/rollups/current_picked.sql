-- The newest row of each station within a month, and all other rows of its newest snapshot. What the newest segments of
-- all have picked lies beside it.
WITH latest AS (
    SELECT arg_max(rowid, ("timestamp", file_timestamp, s3_source_key)) AS place
    FROM partials.settled_picked
    WHERE is_latest
        AND segment > $first_segment
        AND segment < $next_segment
    GROUP BY station_id
)
SELECT * EXCLUDE (segment) REPLACE (rowid IN (FROM latest) AS is_latest)
FROM partials.settled_picked
WHERE segment > $first_segment
    AND segment < $next_segment
    AND (
        rowid IN (FROM latest)
        OR s3_source_key = (
            SELECT arg_max(newest_source_key, (newest_snapshot, newest_source_key))
            FROM partials.segments
            WHERE segment > $first_segment
                AND segment < $next_segment
        )
    )
