-- Every change of the bikes at a station that two systems share since a time: how many seconds later the second system saw
-- it (negative: sooner, null: not within $window_seconds), with how often each of the two saw a change. $ours and
-- $theirs are the ids of the same stations, in the same order. Of several like changes the nearest counts.
WITH pairs AS (
    SELECT unnest($ours) AS station_id, unnest($theirs) AS other_id
),
observed AS (
    SELECT
        system_id,
        station_id,
        file_timestamp AS seen_at,
        bikes,
        lag(bikes) OVER (PARTITION BY system_id, station_id ORDER BY file_timestamp) AS before
    FROM main.history
    WHERE system_id IN ($first, $second)
        AND record_type = 'station'
        AND bikes IS NOT NULL
        AND date >= CAST($since AS DATE)
        AND file_timestamp >= $since
),
ours AS (
    SELECT pairs.station_id, observed.* EXCLUDE (station_id)
    FROM observed
    JOIN pairs USING (station_id)
    WHERE system_id = $first AND bikes <> before
),
theirs AS (
    SELECT pairs.station_id, observed.* EXCLUDE (station_id)
    FROM observed
    JOIN pairs ON observed.station_id = pairs.other_id
    WHERE system_id = $second AND bikes <> before
),
matched AS (
    SELECT
        ours.station_id,
        ours.seen_at,
        theirs.seen_at AS other_seen_at,
        epoch(theirs.seen_at) - epoch(ours.seen_at) AS later_seconds
    FROM ours
    JOIN theirs USING (station_id, before, bikes)
    WHERE abs(epoch(theirs.seen_at) - epoch(ours.seen_at)) <= $window_seconds
),
-- Both must be the other's nearest: else one change would be the counterpart of several.
nearest AS (
    SELECT *
    FROM matched
    QUALIFY row_number() OVER (PARTITION BY station_id, seen_at ORDER BY abs(later_seconds), later_seconds) = 1
        AND row_number() OVER (PARTITION BY station_id, other_seen_at ORDER BY abs(later_seconds), later_seconds) = 1
)
SELECT
    (SELECT count(*) FROM ours) AS first_saw,
    (SELECT count(*) FROM theirs) AS second_saw,
    count(*) AS both_saw,
    count(*) FILTER (WHERE later_seconds > 0) AS first_sooner,
    count(*) FILTER (WHERE later_seconds < 0) AS second_sooner,
    median(later_seconds) AS second_later_seconds
FROM nearest;
