-- Width in degrees of the grid's columns in this row, 31.62 m at its middle. Metres per degree as for the rows, here
-- pi / 180 times the radius of the parallel a cos(lat) / w.
CREATE OR REPLACE MACRO {schema}.grid_column_degrees(grid_row) AS
    sqrt(1000.0)
    / (
        radians(1) * 6378137.0 * cos(radians((grid_row + 0.5) * {schema}.grid_row_degrees()))
        / sqrt(1 - 0.00669437999014 * sin(radians((grid_row + 0.5) * {schema}.grid_row_degrees())) ** 2)
    );
