"""SUPER: JSON in, paths through it, JSON out."""

from __future__ import annotations

import pytest


@pytest.fixture
def events(run):
    """A table with two rows of JSON."""
    run("create table events (id int, properties super)")
    run(
        "insert into events values (1, json_parse("
        """'{"plan": "free", "price": 1.5, "items": [{"sku": "a"}, {"sku": "b"}], "paid": false}'))"""
    )
    run("""insert into events values (2, json_parse('{"plan": "pro", "price": 20, "nested": {"deep": {"er": null}}}'))""")


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("e.properties.plan", ['"free"', '"pro"']),
        ("properties.plan::varchar", ["free", "pro"]),
        ("properties.price::decimal(9, 2)::varchar", ["1.50", "20.00"]),
        ("properties.items[1].sku", ['"b"', None]),
        ("e.properties.items[0]", ['{"sku": "a"}', None]),
        ("properties.nested.deep.er", [None, "null"]),
        ("properties.paid::boolean", [False, None]),
        ("properties.plan::int", [None, None]),
        ("json_typeof(properties.items)", ["array", None]),
        ("is_object(properties.nested)", [None, True]),
        ("get_array_length(properties.items)", [2, None]),
        ("json_serialize(properties.items[0])", ['{"sku": "a"}', None]),
        ('properties."plan"', ['"free"', '"pro"']),
    ],
)
def test_paths_lead_into_it(run, events, expression, values):
    """By names and indexes; what is not there is NULL; a scalar has its JSON text until it is cast."""
    assert [row[0] for row in run(f"select {expression} from events as e order by id")] == values


def test_conditions_and_groups(run, events):
    """A SUPER compares with strings, numbers and booleans, and can be grouped by."""
    assert run("select id from events where properties.plan = 'pro'") == [[2]]
    assert run("select id from events where properties.price > 2") == [[2]]
    assert run("select id from events where properties.items[0].sku = 'a'") == [[1]]
    assert run("select properties.plan, count(*) from events group by properties.plan order by 1") == [['"free"', 1], ['"pro"', 1]]


def test_the_driver_sees_super(connect, run, events):
    """Type number 4000, as str, under the name of the last step."""
    cursor = connect().cursor()
    cursor.execute("select properties, properties.plan from events where id = 1")
    assert [(column[0], column[1]) for column in cursor.description] == [("properties", 4000), ("plan", 4000)]
    assert isinstance(cursor.fetchone()[0], str)


def test_a_string_stays_a_string(run):
    """Only JSON_PARSE makes JSON of text."""
    run("create table t (s super)")
    run("""insert into t (s) values ('{"a": 1}')""")
    run("insert into t values ('{\"a\": 1}'::varchar), ('[1]'), ('not json')")
    assert run("select json_typeof(s) from t") == [["string"]] * 4


def test_json_that_is_none_is_refused(refusal):
    """JSON_PARSE fails."""
    assert refusal("select json_parse('{\"a\": }')")[0] == "22P02"


def test_names_of_tables_are_no_columns(run, events):
    """A path that begins with a table's name goes on from there."""
    run("create table properties (plan int)")
    run("insert into properties values (3)")
    assert run("select properties.plan from properties") == [[3]]
