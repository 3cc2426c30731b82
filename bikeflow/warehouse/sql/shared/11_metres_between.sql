-- Great-circle distance in metres of two places in degrees, on a sphere with the earth's mean radius (haversine formula).
-- Null where a place is unknown.
CREATE OR REPLACE MACRO {schema}.metres_between(from_lat, from_lon, to_lat, to_lon) AS
    if(
        from_lat IS NULL OR from_lon IS NULL OR to_lat IS NULL OR to_lon IS NULL,
        NULL,
        2 * 6371008.8
        * asin(
            least(
                sqrt(
                    sin(radians(to_lat - from_lat) / 2) ** 2
                    + cos(radians(from_lat)) * cos(radians(to_lat)) * sin(radians(to_lon - from_lon) / 2) ** 2
                ),
                1
            )
        )
    );
