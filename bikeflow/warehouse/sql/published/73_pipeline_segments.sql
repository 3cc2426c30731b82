-- What the file of each segment tells of itself: raw files, lines, rows, how many have which flag, and its snapshots. One
-- that is still being added to is in several rows. data_quality is made of it.
CREATE OR REPLACE TABLE wrm_analytics.pipeline_segments AS
SELECT * EXCLUDE (newest_source_key, longest_gap_us, future_at), longest_gap_us / 1e6 AS longest_gap_seconds
FROM working.partials.segments;
