-- The rows of a table with lat and lon, and which cell of the grid each lies in. In steps, as each name stands for its
-- whole expression where it is used within one step.
CREATE OR REPLACE MACRO partials.gridded(source) AS TABLE
SELECT *, CAST(floor(lon / column_degrees) AS BIGINT) AS grid_column
FROM (
    SELECT *, working.partials.grid_column_degrees(middle_lat) AS column_degrees
    FROM (
        SELECT *, (grid_row + 0.5) * row_degrees AS middle_lat
        FROM (
            SELECT *, CAST(floor(lat / row_degrees) AS BIGINT) AS grid_row
            FROM (
                SELECT *, working.partials.grid_row_degrees() AS row_degrees
                FROM query_table(source)
            )
        )
    )
);
