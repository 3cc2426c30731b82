-- What a segment saw of each station: sums, extremes, how long it was empty or full, and the state at both ends, so that
-- spans can be joined. Times are those of the snapshots. Sums of bikes are floating point: whole numbers below 2^53 add
-- up exactly in any order, and a silly count can't overflow. Occupancy is decimal for the same reason. One
-- window over all stations takes a third of the time that one for each station takes.
SELECT
    station_id,
    min("date") AS first_date,
    arg_min(file_timestamp, number) AS first_seen,
    arg_max(file_timestamp, number) AS last_seen,
    arg_max(bikes = 0, number) AS last_empty,
    arg_max(spaces = 0, number) AS last_full,
    count(*) AS observations,
    sum(CAST(bikes AS DOUBLE)) AS bikes_sum,
    min(bikes) AS bikes_min,
    max(bikes) AS bikes_max,
    coalesce(sum(CAST(occupancy AS DECIMAL(18, 15))), 0) AS occupancy_sum,
    count(occupancy) AS occupancy_count,
    CAST(sum(lasting_us) AS BIGINT) AS observed_us,
    CAST(sum(if(bikes = 0, lasting_us, 0)) AS BIGINT) AS empty_us,
    CAST(sum(if(spaces = 0, lasting_us, 0)) AS BIGINT) AS full_us
FROM (
    SELECT
        station_id,
        "date",
        file_timestamp,
        bikes,
        spaces,
        bikes / nullif(CAST(bikes AS DOUBLE) + spaces, 0) AS occupancy,
        number,
        if(
            lead(station_id) OVER in_time = station_id,
            partials.lasting_us(file_timestamp, lead(file_timestamp) OVER in_time),
            0
        ) AS lasting_us
    FROM temp.observations
    WINDOW in_time AS (ORDER BY station_id, number)
)
GROUP BY station_id
