-- Add later changes.
INSERT INTO state.station_changes BY NAME ({added})
