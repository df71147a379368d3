"""Parameters and environment, read into one object."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from polku.errors import SettingsError
from polku.settings import Load, Redshift, Settings, Slack, Source

ROOT = Path(__file__).parents[1]
REDSHIFT = {"REDSHIFT_HOST": "h", "REDSHIFT_DB": "d", "REDSHIFT_USER": "u", "REDSHIFT_PWD": "hunter2"}
SLACK = {"SLACK_TOKEN": "xoxb-secret", "SLACK_CHANNEL": "#polku"}


@pytest.fixture
def load(tmp_path):
    """Return a function that loads the repository's file with lines of it replaced, or any other text."""

    def load(*replacements, text=None, **env):
        if text is None:
            text = (ROOT / "parameters.yaml.j2").read_text()
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "parameters.yaml.j2"
        path.write_text(text)
        return Settings.from_env({"POLKU_PARAMETERS": str(path), **env})

    return load


def test_the_repository_s_file_holds_without_any_variable():
    """DAGs must parse on a machine that knows no secret."""
    settings = Settings.from_env({})

    assert settings.stage == "DEV"
    assert settings.schema == "polku_poc"
    assert settings.sources == {
        "server": Source(stream="polku-dev-server", buffer_prefix="buffer/server/", translate=True),
        "client": Source(stream="polku-dev-client", buffer_prefix="buffer/client/", translate=False),
    }
    assert settings.load == Load(max_batches=60, dedup_days=7, quarantine_error_share=0.05)


@pytest.mark.parametrize("stage", ["DEV", "PROD"])
def test_every_stage_of_the_repository_s_file_is_without_fault(stage):
    """A typing error in PROD must not wait for the deployment."""
    settings = Settings.from_env({"POLKU_STAGE": stage})

    assert settings.sources["client"].stream == f"polku-{stage.lower()}-client"


def test_every_parameter_is_explained_where_it_stands():
    """Each paragraph of the file begins with a comment, after the line that opens its section."""
    text = (ROOT / "parameters.yaml.j2").read_text()
    defaults = text[text.index("_default:\n") + len("_default:\n") : text.index("# Overrides by stage")]

    unexplained = [paragraph for paragraph in defaults.strip().split("\n\n") if not paragraph.lstrip().startswith("#")]

    assert unexplained == []


def test_a_stage_is_laid_over_the_defaults_key_by_key(load):
    """An override of one bound leaves its neighbours as they are."""
    settings = load(("\nDEV:\n", "\nDEV:\n  drain:\n    lanes: 9\n  sources:\n    client:\n      stream: null\n"))

    assert (settings.drain.lanes, settings.drain.max_mbs) == (9, 64)
    assert settings.sources["client"] == Source(stream=None, buffer_prefix="buffer/client/", translate=False)


def test_a_source_that_is_null_does_not_exist(load):
    """One source is enough."""
    settings = load(("\nDEV:\n", "\nDEV:\n  sources:\n    client: null\n"))

    assert list(settings.sources) == ["server"]
    assert not settings.shared("server")


def test_sources_with_the_same_stream_are_shared(load):
    """Each of them then passes the other's events over."""
    settings = load(("polku-{{ stage | lower }}-client", "polku-{{ stage | lower }}-server"))

    assert settings.shared("server")
    assert settings.shared("client")


def test_a_value_of_the_environment_keeps_every_character(load):
    """Quotes, colons and hashes are YAML's own; a line break would begin a new parameter."""
    nasty = 'a"b: c # d\nschema: other\\'

    settings = load(("owner: polku", "owner: {{ env.WHO | tojson }}"), WHO=nasty)

    assert settings.owner == nasty
    assert settings.schema == "polku_poc"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("max_mbs: 64", "max_mb: 64", r"drain\.max_mb is no parameter; did you mean max_mbs\?", id="a key misspelt"),
        pytest.param("max_mbs: 64", "", r"drain\.max_mbs is missing; expected a whole number, 1 to 1024", id="a key missing"),
        pytest.param("lanes: 4", "lanes: four", r"drain\.lanes is 'four'; expected a whole number, 1 to 64", id="a word for a number"),
        pytest.param("lanes: 4", "lanes: true", r"drain\.lanes is True; expected a whole number", id="a boolean for a number"),
        pytest.param("lanes: 4", "lanes: 4.0", r"drain\.lanes is 4\.0; expected a whole number", id="a fraction for a whole number"),
        pytest.param("lanes: 4", "lanes: 65", r"drain\.lanes is 65; expected a whole number, 1 to 64", id="a number too large"),
        pytest.param("share: 0.05", "share: 5", r"quarantine_error_share is 5; expected a number, 0 to 1", id="percent for a share"),
        pytest.param(
            "translate: true", 'translate: "yes"', r"server\.translate is 'yes'; expected true or false", id="a word for a boolean"
        ),
        pytest.param(
            "directory: generated", "directory: tabel", r"names\.directory is 'tabel'; expected generated or table", id="no such choice"
        ),
        pytest.param('"* * * * *"', '"@hourly"', r"schedule is '@hourly'; expected a cron expression", id="a schedule that is no cron"),
        pytest.param(
            "schema: polku_poc", "schema: Polku; drop", r"schema is 'Polku; drop'; expected lower-case", id="a schema that is no identifier"
        ),
        pytest.param(
            "buffer/server/", "buffer/server", r"buffer_prefix is 'buffer/server'; expected a prefix", id="a prefix without a slash"
        ),
        pytest.param(
            "buffer/server/", "state/", r"server\.buffer_prefix is 'state/', where Polku's own state/ is", id="a prefix of Polku's own"
        ),
        pytest.param(
            "buffer/server/",
            "buffer/",
            r"client\.buffer_prefix is 'buffer/client/', where sources\.server is",
            id="a prefix inside the other",
        ),
        pytest.param("max_seconds: 40", "max_seconds: 60\n    x: 1", r"x is no parameter", id="a key that resembles nothing"),
        pytest.param("  drain:\n", "  drain: 7\n  load_:\n", r"drain is 7; expected parameters below it", id="a value for a group"),
        pytest.param("    client:\n", "    cilent:\n", r"sources\.cilent is no parameter; did you mean client\?", id="a source misspelt"),
        pytest.param("lanes: 4", "lanes: 4\n    lanes: 5", r"'lanes' is there twice, line", id="a key that is there twice"),
        pytest.param("lanes: 4", "lanes: [", r"is no YAML once it is rendered", id="no YAML"),
        pytest.param("lanes: 4", "lanes: {{ env.LANES }}", r"the environment variable LANES is not set", id="a variable that is not set"),
        pytest.param("lanes: 4", "lanes: {{ env.LANES", r"cannot be rendered: line", id="no Jinja"),
        pytest.param(
            "max_retry_seconds: 300",
            "max_retry_seconds: 5",
            r"max_retry_seconds is 5; expected at least retry_seconds",
            id="a contradiction",
        ),
    ],
)
def test_a_fault_is_named_with_what_is_allowed(load, old, new, message):
    """The message is all that a person has to mend it."""
    with pytest.raises(SettingsError, match=message):
        load((old, new))


def test_all_faults_are_reported_at_once(load):
    """Nobody likes to mend the second mistake after the second deployment."""
    with pytest.raises(SettingsError) as caught:
        load(("lanes: 4", "lanes: 0"), ("max_mbs: 64", "max_mb: 1"), ("owner: polku", "owner: 1"))

    assert "stage DEV: 4 faults:" in str(caught.value)
    assert str(caught.value).count("\n- ") == 4


def test_a_stage_that_has_no_section_is_refused(load):
    """Production must not run on the defaults because of a letter."""
    with pytest.raises(SettingsError, match=r"POLKU_STAGE is 'PRDO', and .* has no such section; did you mean PROD\?"):
        load(POLKU_STAGE="PRDO")


def test_a_file_that_is_not_there_is_named(tmp_path):
    """POLKU_PARAMETERS with a typing error must not fall back to another file."""
    with pytest.raises(SettingsError, match=r"POLKU_PARAMETERS is .*nowhere.* there is no such file"):
        Settings.from_env({"POLKU_PARAMETERS": str(tmp_path / "nowhere")})


def test_addresses_come_from_the_environment():
    """The owner's variables keep their names."""
    settings = Settings.from_env(
        {
            **REDSHIFT,
            **SLACK,
            "REDSHIFT_PORT": "5440",
            "SENTRY_DSN": "https://k@s/1",
            "HUMILIS_BUCKET": "bucket",
            "HUMILIS_AWS_REGION": "eu-west-1",
        }
    )

    assert settings.redshift == Redshift(host="h", port=5440, db="d", user="u", password="hunter2")
    assert settings.slack == Slack(token="xoxb-secret", channel="#polku")
    assert settings.slack_channel == "#polku"
    assert settings.sentry_dsn == "https://k@s/1"
    assert (settings.bucket, settings.region) == ("bucket", "eu-west-1")


def test_the_bucket_of_the_stage_wins_over_the_bucket_of_the_deployment():
    """Data does not land among CloudFormation templates where it has a place of its own."""
    settings = Settings.from_env({"HUMILIS_BUCKET": "deployment", "POLKU_BUCKET": "data-of-dev"})

    assert settings.bucket == "data-of-dev"


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            "redshift",
            r"REDSHIFT_HOST, REDSHIFT_PWD are not set\. Set them in the environment, or define the Airflow connection redshift_default",
        ),
        ("slack", r"SLACK_TOKEN is not set\. Set it in the environment, or define the Airflow connection slack_default"),
        ("bucket", r"The parameter bucket is not set\. Set POLKU_BUCKET in the environment, or bucket in parameters\.yaml\.j2"),
        ("region", r"The parameter region is not set\. Set HUMILIS_AWS_REGION"),
    ],
)
def test_what_is_missing_is_named_when_it_is_used(use, message):
    """All at once, and not before: parsing needs none of it."""
    settings = Settings.from_env({"REDSHIFT_DB": "d", "REDSHIFT_USER": "u", "SLACK_CHANNEL": "#polku"})

    with pytest.raises(SettingsError, match=message):
        getattr(settings, use)


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1"])
def test_a_port_that_is_none_is_named(port):
    """redshift_connector would fail with a TypeError."""
    with pytest.raises(SettingsError, match=f"REDSHIFT_PORT is '{port}'; expected 1 to 65535"):
        _ = Settings.from_env({**REDSHIFT, "REDSHIFT_PORT": port}).redshift


def test_no_secret_is_printed():
    """Settings end up in logs."""
    settings = Settings.from_env({**REDSHIFT, **SLACK})

    printed = f"{settings!r} {settings.redshift!r} {settings.slack!r}"

    assert "hunter2" not in printed
    assert "xoxb-secret" not in printed


def test_no_secret_is_quoted_when_the_file_is_no_yaml(load):
    """YAML's own message shows the line, which may hold what the environment gave."""
    with pytest.raises(SettingsError) as caught:
        load(("owner: polku", "owner: {{ env.TOKEN }}: : ["), TOKEN="xoxb-secret")

    assert "xoxb-secret" not in str(caught.value)


def test_every_parameter_and_variable_is_documented():
    """docs/configuration.md lists what there is, and nothing else."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    rows = [re.findall(r"`([^`]+)`", line.split(" | ")[0]) for line in text.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in row}

    assert {name for name in documented if name.islower()} == set(_parameters(Settings))
    assert {name for name in documented if name.isupper()} == {
        *(
            "POLKU_STAGE",
            "POLKU_PARAMETERS",
            "POLKU_BUCKET",
            "HUMILIS_BUCKET",
            "HUMILIS_AWS_REGION",
            "REDSHIFT_IAM_ROLE",
            "REDSHIFT_PORT",
            "SENTRY_DSN",
        ),
        *REDSHIFT,
        *SLACK,
    }


def _parameters(kind, prefix=""):
    """Yield the full names of all parameters."""
    kinds = {"drain": "Drain", "load": "Load", "notify": "Notify", "names": "Names", "watch": "Watch"}
    for field in dataclasses.fields(kind):
        key = field.metadata.get("key", field.name)
        if field.metadata.get("given"):
            continue
        if "keys" in field.metadata:
            for name in field.metadata["keys"]:
                yield from _parameters(Source, f"{key}.{name}.")
        elif key in kinds and not prefix:
            yield from _parameters(getattr(__import__("polku.settings", fromlist=["x"]), kinds[key]), f"{key}.")
        else:
            yield prefix + key
