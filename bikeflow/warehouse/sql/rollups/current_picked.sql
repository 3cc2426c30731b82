-- All rows of the newest snapshot of a month. What the newest segments of all have picked lies beside it.
SELECT * EXCLUDE (segment)
FROM partials.settled_picked
WHERE segment > $first_segment
    AND segment < $next_segment
    AND s3_source_key = (
        SELECT arg_max(newest_source_key, (newest_snapshot, newest_source_key))
        FROM partials.segments
        WHERE segment > $first_segment
            AND segment < $next_segment
            AND segment NOT IN (FROM partials.newest)
    )
