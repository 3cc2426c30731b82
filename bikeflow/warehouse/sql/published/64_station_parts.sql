-- The states of each station cut at the hours (UTC) and at the borders of coverage: how long each part lasted, and
-- whether that time is known. station_hourly, station_flows_hourly and station_service_levels add these up. How many
-- bikes more or less there are than in the state before is told in the part that a state begins with, and only if
-- coverage has no gap between the two. The hour in which coverage ends is cut short.
CREATE OR REPLACE VIEW main.station_parts AS
FROM parts.station_parts('main.station_changes', 'main.coverage');
