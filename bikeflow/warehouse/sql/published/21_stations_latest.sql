-- The stations of each system's newest snapshot that has any: feeds serve empty lists now and then. One that is not in it
-- is not part of the city now; station_summary still knows when it was last seen.
CREATE OR REPLACE VIEW main.stations_latest AS
SELECT *
FROM main.current_rows
WHERE record_type = 'station';
