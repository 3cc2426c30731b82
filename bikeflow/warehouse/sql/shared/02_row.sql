-- The row of the grid that a latitude lies in.
CREATE OR REPLACE MACRO {schema}.grid_row(lat) AS
    CAST(floor(lat / {schema}.grid_row_degrees()) AS BIGINT);
