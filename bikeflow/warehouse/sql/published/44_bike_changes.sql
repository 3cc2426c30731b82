-- What changed among the free bikes of a system from one snapshot to the next, day by day (UTC): a bike "came", or it
-- "left" the place where it stood; one that moved more than 100 m did both at once. Each bike of a day's first snapshot is
-- a row ("first"). Where fewer than half of the bikes, of ten or more, are in two snapshots at the same place, the ids may
-- not mean the same bikes (some feeds change them at each poll): that is one row without a bike ("reset"). Snapshots in the
-- folder of another day than their own are left out, and so are those without a row of a station or bike. A filter on date
-- or system_id reads little.
CREATE OR REPLACE VIEW main.bike_changes AS
SELECT
    system_id,
    date,
    next_dt,
    bike_id,
    vehicle_type,
    changed_at,
    change,
    seen_at,
    lat,
    lon,
    battery_level,
    range_meters
FROM (
    SELECT * EXCLUDE (dt), dt AS date
    FROM {bike_changes}
    UNION ALL BY NAME
    SELECT *, date + 1 AS next_dt
    FROM main.open_bike_changes
);
