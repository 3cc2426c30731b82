-- Height in degrees of the rows of the grid, whose cells have 1000 m². They are 31.62 m high at the latitude of Wrocław
-- (less than 1 % off anywhere else). Metres per degree are those of the WGS 84 ellipsoid (Snyder, Map Projections: A
-- Working Manual, USGS Professional Paper 1395, chapter 4): for latitude pi / 180 times the meridian's radius of
-- curvature a (1 - e²) / w³, where w² = 1 - e² sin²(lat).
CREATE OR REPLACE MACRO {schema}.grid_row_degrees() AS
    sqrt(1000.0)
    / (radians(1) * 6378137.0 * (1 - 0.00669437999014) / (1 - 0.00669437999014 * sin(radians(51.1)) ** 2) ** 1.5);
