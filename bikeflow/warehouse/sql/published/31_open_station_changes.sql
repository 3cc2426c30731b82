-- Changes of stations' states on days that are not sealed yet, and the last states of these days and of those before.
-- Part of station_changes.
CREATE OR REPLACE VIEW main.open_station_changes AS
SELECT *, dt + 1 AS next_dt
FROM (
    SELECT *, false AS is_copy
    FROM main.recent_station_changes
    UNION ALL BY NAME
    SELECT moved.* EXCLUDE (file_number), false AS is_copy
    FROM {moved_station_changes} AS moved
    JOIN main.moved_days USING (system_id, dt)
    WHERE name = 'station_changes'
        AND file_number >= first_file_number
    UNION ALL BY NAME
    FROM main.day_ends
);
