-- Episodes in which a station was empty or full, over hours and days: each from when it is known to have become so until
-- it no longer is, or no longer known to be. seconds is how long that was, seconds_at_most counts the unknown time before
-- and after it as well, and other episodes of its kind that only unknown time parts from it. An episode that lasts ends
-- where coverage does. Between two known states that something unknown parts the station may have been empty or full: there
-- the states are maybe_empty and maybe_full, and seconds_at_most counts the episodes of that kind before and after it.
CREATE OR REPLACE VIEW main.station_episodes AS
WITH known AS (
    -- The known time, cut at midnight (UTC), as states are.
    SELECT
        system_id,
        CAST(day_at AS DATE) AS date,
        greatest(began_at, day_at) AS began_at,
        least(ended_at, day_at + INTERVAL 1 DAY) AS ended_at
    FROM (
        SELECT
            system_id,
            min(began_at) AS began_at,
            max(ended_at) AS ended_at,
            unnest(generate_series(date_trunc('day', min(began_at)), max(ended_at), INTERVAL 1 DAY)) AS day_at
        FROM (
            SELECT *, count(*) FILTER (WHERE NOT known) OVER (PARTITION BY system_id ORDER BY began_at) AS run
            FROM main.coverage
        )
        WHERE known
        GROUP BY system_id, run
    )
),
pieces AS (
    SELECT
        system_id,
        station_id,
        greatest(states.began_at, known.began_at) AS began_at,
        least(coalesce(states.ended_at, date + INTERVAL 1 DAY), known.ended_at) AS ended_at,
        CASE
            WHEN parts.is_empty(bikes, spaces) THEN 'empty'
            WHEN parts.is_full(bikes, spaces, total_docks) THEN 'full'
            ELSE 'neither'
        END AS state
    FROM main.station_states AS states
    JOIN known USING (system_id, date)
    WHERE bikes IS NOT NULL
        AND greatest(states.began_at, known.began_at)
            < least(coalesce(states.ended_at, date + INTERVAL 1 DAY), known.ended_at)
),
stretches AS (
    -- Pieces of the same state that touch are one stretch: from its first piece to its last one.
    SELECT system_id, station_id, state, began_at, if(is_last, ended_at, next_ended_at) AS ended_at
    FROM (
        SELECT *, lead(ended_at) OVER in_time AS next_ended_at
        FROM (
            SELECT
                *,
                (lag(state) OVER in_time = state AND lag(ended_at) OVER in_time = began_at) IS NOT TRUE AS is_first,
                (lead(state) OVER in_time = state AND lead(began_at) OVER in_time = ended_at) IS NOT TRUE AS is_last
            FROM pieces
            WINDOW in_time AS (PARTITION BY system_id, station_id ORDER BY began_at)
        )
        WHERE is_first OR is_last
        WINDOW in_time AS (PARTITION BY system_id, station_id ORDER BY began_at)
    )
    WHERE is_first
),
bounded AS (
    SELECT
        *,
        count(*) FILTER (WHERE lag_state IS DISTINCT FROM state) OVER in_time AS island
    FROM (
        SELECT
            *,
            lag(state) OVER in_time AS lag_state,
            coalesce(lag(ended_at) OVER in_time, began_at) AS unknown_since,
            coalesce(lead(began_at) OVER in_time, ended_at) AS unknown_until
        FROM stretches
        WINDOW in_time AS (PARTITION BY system_id, station_id ORDER BY began_at)
    )
    WINDOW in_time AS (PARTITION BY system_id, station_id ORDER BY began_at)
),
islands AS (
    SELECT
        *,
        lag(state) OVER in_time AS state_before,
        lag(at_most_us) OVER in_time AS at_most_us_before
    FROM (
        SELECT *, epoch_us(max(unknown_until) OVER in_island) - epoch_us(min(unknown_since) OVER in_island) AS at_most_us
        FROM bounded
        WINDOW in_island AS (PARTITION BY system_id, station_id, island)
    )
    WINDOW in_time AS (PARTITION BY system_id, station_id ORDER BY began_at)
)
SELECT
    system_id,
    station_id,
    state,
    began_at,
    ended_at,
    (epoch_us(ended_at) - epoch_us(began_at)) / 1e6 AS seconds,
    at_most_us / 1e6 AS seconds_at_most
FROM islands
WHERE state <> 'neither'
UNION ALL
SELECT
    system_id,
    station_id,
    'maybe_' || kind,
    unknown_since,
    began_at,
    unknown_us / 1e6,
    greatest(unknown_us, if(state_before = kind, at_most_us_before, 0), if(state = kind, at_most_us, 0)) / 1e6
FROM (
    SELECT *, epoch_us(began_at) - epoch_us(unknown_since) AS unknown_us
    FROM islands
)
CROSS JOIN (SELECT unnest(['empty', 'full']) AS kind)
WHERE unknown_us > 0;
