-- Redshift compares VARCHAR without trailing blanks, as CHAR: in =, <, IN, joins, GROUP BY, DISTINCT and PARTITION BY 'a' is 'a '
-- (docs.aws.amazon.com/redshift/latest/dg/r_Character_types.html, "Significance of trailing blanks"); LEN and || keep them.
-- PostgreSQL does that for CHAR only, so VARCHAR gets operators of its own, by the very functions of CHAR.
-- Not reached: an expression that PostgreSQL takes for text, such as a || b, is compared with its blanks.
create function pg_redshift.varchar_eq(varchar, varchar) returns boolean language internal immutable strict parallel safe leakproof as 'bpchareq';
create function pg_redshift.varchar_ne(varchar, varchar) returns boolean language internal immutable strict parallel safe leakproof as 'bpcharne';
create function pg_redshift.varchar_lt(varchar, varchar) returns boolean language internal immutable strict parallel safe leakproof as 'bpcharlt';
create function pg_redshift.varchar_le(varchar, varchar) returns boolean language internal immutable strict parallel safe leakproof as 'bpcharle';
create function pg_redshift.varchar_gt(varchar, varchar) returns boolean language internal immutable strict parallel safe leakproof as 'bpchargt';
create function pg_redshift.varchar_ge(varchar, varchar) returns boolean language internal immutable strict parallel safe leakproof as 'bpcharge';
create function pg_redshift.varchar_cmp(varchar, varchar) returns integer language internal immutable strict parallel safe leakproof as 'bpcharcmp';
create function pg_redshift.varchar_sort(internal) returns void language internal immutable strict parallel safe as 'bpchar_sortsupport';
create function pg_redshift.varchar_hash(varchar) returns integer language internal immutable strict parallel safe as 'hashbpchar';
create function pg_redshift.varchar_hash(varchar, bigint) returns bigint language internal immutable strict parallel safe as 'hashbpcharextended';
create operator pg_catalog.= (
    leftarg = varchar, rightarg = varchar, function = pg_redshift.varchar_eq, commutator = operator(pg_catalog.=),
    negator = operator(pg_catalog.<>), restrict = eqsel, join = eqjoinsel, hashes, merges
);
create operator pg_catalog.<> (
    leftarg = varchar, rightarg = varchar, function = pg_redshift.varchar_ne, commutator = operator(pg_catalog.<>),
    negator = operator(pg_catalog.=), restrict = neqsel, join = neqjoinsel
);
create operator pg_catalog.< (
    leftarg = varchar, rightarg = varchar, function = pg_redshift.varchar_lt, commutator = operator(pg_catalog.>),
    negator = operator(pg_catalog.>=), restrict = scalarltsel, join = scalarltjoinsel
);
create operator pg_catalog.<= (
    leftarg = varchar, rightarg = varchar, function = pg_redshift.varchar_le, commutator = operator(pg_catalog.>=),
    negator = operator(pg_catalog.>), restrict = scalarlesel, join = scalarlejoinsel
);
create operator pg_catalog.> (
    leftarg = varchar, rightarg = varchar, function = pg_redshift.varchar_gt, commutator = operator(pg_catalog.<),
    negator = operator(pg_catalog.<=), restrict = scalargtsel, join = scalargtjoinsel
);
create operator pg_catalog.>= (
    leftarg = varchar, rightarg = varchar, function = pg_redshift.varchar_ge, commutator = operator(pg_catalog.<=),
    negator = operator(pg_catalog.<), restrict = scalargesel, join = scalargejoinsel
);
create operator class pg_redshift.varchar_btree default for type varchar using btree as
    operator 1 pg_catalog.< (varchar, varchar),
    operator 2 pg_catalog.<= (varchar, varchar),
    operator 3 pg_catalog.= (varchar, varchar),
    operator 4 pg_catalog.>= (varchar, varchar),
    operator 5 pg_catalog.> (varchar, varchar),
    function 1 pg_redshift.varchar_cmp(varchar, varchar),
    function 2 (varchar, varchar) pg_redshift.varchar_sort(internal);
create operator class pg_redshift.varchar_hash default for type varchar using hash as
    operator 1 pg_catalog.= (varchar, varchar),
    function 1 pg_redshift.varchar_hash(varchar),
    function 2 pg_redshift.varchar_hash(varchar, bigint);
create operator class pg_redshift.varchar_minmax default for type varchar using brin as
    operator 1 pg_catalog.< (varchar, varchar),
    operator 2 pg_catalog.<= (varchar, varchar),
    operator 3 pg_catalog.= (varchar, varchar),
    operator 4 pg_catalog.>= (varchar, varchar),
    operator 5 pg_catalog.> (varchar, varchar),
    function 1 brin_minmax_opcinfo(internal),
    function 2 brin_minmax_add_value(internal, internal, internal, internal),
    function 3 brin_minmax_consistent(internal, internal, internal),
    function 4 brin_minmax_union(internal, internal, internal);
