-- The partitions that a file of moved rows has valid rows of.
CREATE TABLE state.moved (name VARCHAR, file_number BIGINT, system_id VARCHAR, dt DATE)
