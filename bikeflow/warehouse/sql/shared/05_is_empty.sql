-- Whether a station is empty: no bike can be taken, though there is room for some. One with neither bikes nor spaces (it
-- may be closed) is neither empty nor full. A feed that tells no spaces does not say that there are none.
CREATE OR REPLACE MACRO {schema}.is_empty(bikes, spaces) AS
    bikes <= 0 AND coalesce(spaces > 0, true);
