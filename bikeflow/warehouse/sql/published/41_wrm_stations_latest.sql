-- The stations of the newest snapshot. One that is not in it is not part of the city now; station_summary still knows when
-- it was last seen.
CREATE OR REPLACE VIEW wrm_analytics.wrm_stations_latest AS
SELECT *
FROM wrm_analytics.wrm_current_rows
WHERE record_type = 'station';
