-- Whether a station is full: it has bikes, and no more can be returned to docks: the feed says no space, or the bikes are
-- as many as the docks, if it has docks. The real feed says 1 space of a station whose docks are all taken.
CREATE OR REPLACE MACRO {schema}.is_full(bikes, spaces, total_docks) AS
    bikes > 0 AND (spaces <= 0 OR (total_docks > 0 AND bikes >= total_docks));
