-- The column of the grid that a longitude lies in, within a row.
CREATE OR REPLACE MACRO {schema}.grid_column(lon, grid_row) AS
    CAST(floor(lon / {schema}.grid_column_degrees(grid_row)) AS BIGINT);
