-- Add later changes of bikes.
INSERT INTO state.bike_changes BY NAME ({added})
