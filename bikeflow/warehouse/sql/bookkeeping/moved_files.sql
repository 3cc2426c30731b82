-- The files of moved rows: a name of `KEPT`, a number that grows, and the file's name.
CREATE TABLE state.moved_files (name VARCHAR, file_number BIGINT, file VARCHAR)
