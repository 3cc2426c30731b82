-- Where each object comes from: one row for each thing that it is made of, back to the feed (main.lineage).
CREATE OR REPLACE VIEW wrm_analytics.lineage AS
FROM main.lineage;
