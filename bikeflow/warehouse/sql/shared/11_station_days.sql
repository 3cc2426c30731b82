-- Sums over each station's known time on a day (UTC), in microseconds, by a log of changes and by coverage (two
-- relations' names): of bikes and of occupancy (times their duration), and how long it was empty and full. Where the feed
-- tells no docks, also how many they seemed to be: its mean bikes and spaces while there were spaces.
CREATE OR REPLACE MACRO {schema}.station_days(changes, coverage) AS TABLE
SELECT
    system_id,
    date AS dt,
    station_id,
    CAST(sum(if(bikes IS NULL, 0, us)) AS BIGINT) AS known_us,
    sum(CAST(coalesce(bikes, 0) AS DOUBLE) * us) AS bikes_us,
    CAST(sum(if(occupancy IS NULL, 0, us)) AS BIGINT) AS occupied_us,
    CAST(coalesce(sum(occupancy * us), 0) AS DECIMAL(38, 15)) AS occupancy_us,
    CAST(sum(if({schema}.is_empty(bikes, spaces), us, 0)) AS BIGINT) AS empty_us,
    CAST(sum(if({schema}.is_full(bikes, spaces, total_docks), us, 0)) AS BIGINT) AS full_us,
    round(sum(docks * us) / sum(us) FILTER (WHERE docks IS NOT NULL)) AS docks
FROM (
    SELECT
        *,
        -- decimals add up exactly in any order
        CAST(bikes / nullif(CAST(bikes AS DOUBLE) + spaces, 0) AS DECIMAL(18, 15)) AS occupancy,
        if(spaces > 0 AND (total_docks > 0) IS NOT TRUE, CAST(bikes AS DOUBLE) + spaces, NULL) AS docks,
        epoch_us(ended_at) - epoch_us(began_at) AS us
    FROM {schema}.station_parts(changes, coverage)
    WHERE known
)
GROUP BY ALL;
