-- The states of each station cut at the hours and at the borders of coverage, by a log of changes and by coverage (two
-- relations' names); see published/64_station_parts.sql.
CREATE OR REPLACE MACRO {schema}.station_parts(changes, coverage) AS TABLE
WITH cover AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY system_id, hour_at ORDER BY began_at) AS number,
        sum(epoch_us(least(ended_at, hour_at + INTERVAL 1 HOUR)) - epoch_us(greatest(began_at, hour_at)))
            OVER (PARTITION BY system_id, hour_at) AS hour_us
    FROM (
        SELECT
            system_id,
            known,
            min(began_at) AS began_at,
            max(ended_at) AS ended_at,
            unnest(generate_series(date_trunc('hour', min(began_at)), max(ended_at), INTERVAL 1 HOUR)) AS hour_at
        FROM (
            SELECT *, count(*) FILTER (WHERE is_change) OVER (PARTITION BY system_id ORDER BY began_at) AS run
            FROM (
                SELECT
                    *,
                    lag(known) OVER (PARTITION BY system_id ORDER BY began_at) IS DISTINCT FROM known AS is_change
                FROM query_table(coverage)
            )
        )
        GROUP BY system_id, run, known
    )
),
states AS (
    SELECT
        *,
        unnest(
            generate_series(
                date_trunc('hour', began_at),
                greatest(until_at - INTERVAL 1 MICROSECOND, began_at),
                INTERVAL 1 HOUR
            )
        ) AS hour_at
    FROM (
        SELECT *, coalesce(ended_at, date + INTERVAL 1 DAY) AS until_at
        FROM {schema}.station_states(changes)
    )
),
hours AS (
    SELECT
        system_id,
        dt AS date,
        date_trunc('hour', began_at) AS hour_at,
        min(ordinal) AS first_snapshot,
        max(ordinal) + 1 AS next_snapshot
    FROM query_table(changes)
    WHERE station_id IS NULL
    GROUP BY ALL
)
SELECT * EXCLUDE (is_covered)
FROM (
    SELECT
        system_id,
        station_id,
        date,
        hour_at,
        states.began_at AS state_began_at,
        greatest(states.began_at, cover.began_at, hour_at) AS began_at,
        greatest(
            least(until_at, cover.ended_at, hour_at + INTERVAL 1 HOUR),
            greatest(states.began_at, cover.began_at, hour_at)
        ) AS ended_at,
        coalesce(known, false) AS known,
        bikes,
        spaces,
        total_docks,
        if(
            known
                AND states.began_at > cover.began_at
                AND states.began_at <= cover.ended_at
                AND date_trunc('hour', states.began_at) = hour_at
                AND {schema}.is_out_of_service(bikes, spaces) IS NOT TRUE,
            bikes - bikes_before,
            NULL
        ) AS change,
        if(
            coalesce(number, 1) = 1 AND hours.first_snapshot IS NOT NULL,
            greatest(
                least(coalesce(states.next_snapshot, hours.next_snapshot), hours.next_snapshot)
                    - greatest(states.first_snapshot, hours.first_snapshot),
                0
            ),
            0
        ) AS observations,
        coalesce(hour_us, 0) AS hour_us,
        cover.number IS NOT NULL AS is_covered
    FROM states
    LEFT JOIN cover USING (system_id, hour_at)
    LEFT JOIN hours USING (system_id, date, hour_at)
)
WHERE (is_covered AND began_at < ended_at)
    OR change IS NOT NULL
    OR observations > 0;
