-- record.sql: one migration has been applied; in the same transaction as the migration, behind lock.sql.
-- Takes migration.version ("0004") and migration.name ("create_server").
-- Runs again safely: a version that is recorded stays as it is.
insert into {{ schema }}.migration (version, name, applied_at)
select
    '{{ migration.version }}' as version,
    '{{ migration.name }}' as name,
    sysdate as applied_at
where not exists (
    select 1
    from {{ schema }}.migration as m
    where m.version = '{{ migration.version }}'
)
