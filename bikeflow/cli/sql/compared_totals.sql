-- What two systems show now: the time of their newest snapshot, stations, the bikes at them, and vehicles that stand free.
SELECT
    system_id,
    max(file_timestamp) AS newest_snapshot,
    count(*) FILTER (WHERE record_type = 'station') AS stations,
    CAST(sum(bikes) FILTER (WHERE record_type = 'station') AS BIGINT) AS bikes_at_stations,
    count(*) FILTER (WHERE record_type = 'bike') AS vehicles
FROM main.current_rows
WHERE system_id IN ($first, $second)
GROUP BY system_id;
