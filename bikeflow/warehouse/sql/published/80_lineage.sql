-- Where each object comes from: one row for each thing that it is made of, back to the feed.
CREATE OR REPLACE TABLE main.lineage AS
SELECT object, kind, source, source_kind, how
FROM temp.lineage_edges
ORDER BY number;
