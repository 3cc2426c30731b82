-- What forecasts of a day (UTC) are held against: the known states of its stations that are in service, at each quarter of
-- an hour (0 to 95). The relations are those of flows.sql.
SELECT
    station_id,
    (epoch_us(quarter_at) - epoch_us(CAST(date AS TIMESTAMP))) // 900_000_000 AS quarter,
    CAST(bikes AS DOUBLE) AS bikes,
    CAST(spaces AS DOUBLE) AS spaces,
    CAST(total_docks AS DOUBLE) AS total_docks
FROM (
    SELECT
        *,
        unnest(
            generate_series(
                time_bucket(INTERVAL 15 MINUTE, began_at + INTERVAL 15 MINUTE - INTERVAL 1 MICROSECOND),
                ended_at - INTERVAL 1 MICROSECOND,
                INTERVAL 15 MINUTE
            )
        ) AS quarter_at
    FROM state.station_parts('temp.day_changes', 'temp.forecast_coverage')
    WHERE known
        AND bikes IS NOT NULL
        AND state.is_out_of_service(bikes, spaces) IS NOT TRUE
)
ORDER BY station_id
