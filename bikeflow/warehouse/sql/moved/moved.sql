-- The partitions whose rows in a file of moved rows count.
CREATE TABLE state.moved (name VARCHAR, file_number BIGINT, system_id VARCHAR, dt DATE)
