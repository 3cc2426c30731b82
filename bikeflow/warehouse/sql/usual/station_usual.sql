-- What is usual at a station, by local weekday and hour: how its bikes were spread over the known time of these days, and
-- what came, went and was missing. `temp.usual_changes` is the log of changes and `temp.usual_coverage` the coverage of
-- one system around the days that are meant: from $first_day until before $today, in the time zone $zone.
WITH parts AS (
    SELECT
        *,
        if(known AND bikes IS NOT NULL, epoch_us(ended_at) - epoch_us(began_at), 0) AS us,
        state.local_time(hour_at, $zone) AS local_at
    FROM state.station_parts('temp.usual_changes', 'temp.usual_coverage')
    WHERE local_at >= $first_day
        AND local_at < $today
),
spread AS (
    SELECT *, sum(us) OVER by_bikes AS until_us, sum(us) OVER in_all AS all_us
    FROM (
        SELECT station_id, isodow(local_at) AS local_weekday, hour(local_at) AS local_hour, bikes, sum(us) AS us
        FROM parts
        WHERE us > 0
        GROUP BY ALL
    )
    WINDOW
        by_bikes AS (PARTITION BY station_id, local_weekday, local_hour ORDER BY bikes),
        in_all AS (PARTITION BY station_id, local_weekday, local_hour)
),
quantiles AS (
    SELECT
        station_id,
        local_weekday,
        local_hour,
        min(bikes) FILTER (WHERE 10 * until_us >= all_us) AS p10,
        min(bikes) FILTER (WHERE 2 * until_us >= all_us) AS median,
        min(bikes) FILTER (WHERE 10 * until_us >= 9 * all_us) AS p90
    FROM spread
    GROUP BY ALL
),
sums AS (
    SELECT
        station_id,
        isodow(local_at) AS local_weekday,
        hour(local_at) AS local_hour,
        count(DISTINCT CAST(local_at AS DATE)) FILTER (WHERE us > 0) AS days,
        sum(us) / 1e6 AS known_seconds,
        sum(if(state.is_empty(bikes, spaces), us, 0)) / 1e6 AS empty_seconds,
        sum(if(state.is_full(bikes, spaces, total_docks), us, 0)) / 1e6 AS full_seconds,
        CAST(-coalesce(sum(change) FILTER (WHERE change < 0), 0) AS BIGINT) AS departures,
        CAST(coalesce(sum(change) FILTER (WHERE change > 0), 0) AS BIGINT) AS arrivals
    FROM parts
    GROUP BY ALL
)
SELECT
    station_id,
    CAST(local_weekday AS INTEGER) AS local_weekday,
    CAST(local_hour AS INTEGER) AS local_hour,
    p10,
    median,
    p90,
    days,
    known_seconds,
    empty_seconds,
    full_seconds,
    departures,
    arrivals
FROM sums
JOIN quantiles USING (station_id, local_weekday, local_hour)
ORDER BY station_id, local_weekday, local_hour
