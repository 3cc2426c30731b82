-- Changes of bikes on days that are not sealed yet. Part of bike_changes.
CREATE OR REPLACE VIEW main.open_bike_changes AS
SELECT * RENAME (dt AS date)
FROM (
    FROM main.recent_bike_changes
    UNION ALL BY NAME
    SELECT moved.* EXCLUDE (file_number)
    FROM {moved_bike_changes} AS moved
    JOIN main.moved_days USING (system_id, dt)
    WHERE name = 'bike_changes'
        AND file_number >= first_file_number
);
