-- Width in degrees of the grid's columns in the row with its middle at this latitude, 31.62 m. Metres per degree as for
-- the rows, here pi / 180 times the radius of the parallel a cos(lat) / w.
CREATE OR REPLACE MACRO partials.grid_column_degrees(middle_lat) AS
    sqrt(1000.0)
    / (radians(1) * 6378137.0 * cos(radians(middle_lat)) / sqrt(1 - 0.00669437999014 * sin(radians(middle_lat)) ** 2));
