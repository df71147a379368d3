-- 0001: the schema that holds all of Polku.
-- Runs again safely: it does nothing where the schema is there.
create schema if not exists {{ schema }}
