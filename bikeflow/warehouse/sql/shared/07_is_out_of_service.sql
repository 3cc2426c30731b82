-- Whether a station has neither bikes nor room for any: feeds say so of one that is closed for a while.
CREATE OR REPLACE MACRO {schema}.is_out_of_service(bikes, spaces) AS
    bikes <= 0 AND spaces <= 0;
