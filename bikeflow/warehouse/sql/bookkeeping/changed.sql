-- The partitions that have changed since what follows from them was brought up to date; `is_added` where they only had
-- later snapshots added. A process that ends before that leaves them to the next one.
CREATE TABLE state.changed (system_id VARCHAR, dt DATE, is_added BOOLEAN)
