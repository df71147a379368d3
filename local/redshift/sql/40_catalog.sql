-- System tables: what the stand-in writes down itself, and views over PostgreSQL's catalog.
create table pg_catalog.stl_load_errors (
    userid integer, slice integer, tbl integer, starttime timestamp, session integer, query integer, filename character(256), line_number bigint,
    colname character(127), type character(10), col_length character(10), position integer, raw_line character(1024), raw_field_value character(1024),
    err_code integer, err_reason character(100), is_partial integer, start_offset bigint
);
grant select on pg_catalog.stl_load_errors to public;
create view pg_catalog.sys_load_error_detail as
select userid as user_id, query as query_id, 0::bigint as transaction_id, session as session_id, 'polku'::text as database_name, tbl as table_id,
    starttime as start_time, filename as file_name, line_number, trim(colname) as column_name, trim(type) as column_type, trim(col_length) as column_length,
    position, err_code as error_code, trim(err_reason) as error_message, trim(raw_line) as raw_line, trim(raw_field_value) as raw_field_value
from pg_catalog.stl_load_errors;
grant select on pg_catalog.sys_load_error_detail to public;
