"""
Settings: ``parameters.yaml.j2`` and the environment, read into one frozen object.

``Settings.from_env`` reads and checks every parameter and reports all faults at once. What a DAG file needs to be parsed
is there without any secret: passwords, tokens and addresses are checked where they are used, by the properties that
give them (``redshift``, ``slack``, ``bucket`` ...).
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Mapping  # noqa: TC003 -- a field's type is looked up at run time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from polku.errors import SettingsError

DEFAULT_STAGE = "DEV"
FILE = "parameters.yaml.j2"

_OWN_PREFIXES = ("raw/", "staged/", "quarantine/", "load/", "state/")
_MANY = 20
"""Faults that an error names before it says how many more there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """
    Where the events of one source come from.

    Args:
        stream: Its stream of Kinesis, or None.
        buffer_prefix: The prefix of its buffer files in the bucket, or None.
        translate: Whether its users get names.
    """

    stream: str | None = field(default=None, metadata={"pattern": r"[A-Za-z0-9_.-]{1,128}", "what": "a name of a stream of Kinesis"})
    buffer_prefix: str | None = field(
        default=None, metadata={"pattern": r"(?!/)[^\x00-\x1f]{1,500}/", "what": "a prefix that ends with a slash and begins without one"}
    )
    translate: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Drain:
    """Bounds of what one run takes from the buffer; megabytes and seconds are a lane's, files the whole run's."""

    lanes: int = field(metadata={"low": 1, "high": 64})
    max_mbs: int = field(metadata={"low": 1, "high": 1024})
    max_seconds: int = field(metadata={"low": 1, "high": 600})
    max_files: int = field(metadata={"low": 1, "high": 10_000})


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Bounds of one load: batches, days on both sides of an arrival for duplicates, the share of quarantined events that is an error."""

    max_batches: int = field(metadata={"low": 1, "high": 1000})
    dedup_days: int = field(metadata={"low": 1, "high": 366})
    quarantine_error_share: float = field(metadata={"low": 0, "high": 1})


@dataclass(frozen=True, kw_only=True, slots=True)
class Notify:
    """When log rows are forwarded in any case (cron, UTC), and how many messages a run posts at most."""

    schedule: str = field(metadata={"cron": True})
    max_messages: int = field(metadata={"low": 1, "high": 3000})


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """When the pipeline is looked at (cron, UTC), and from how many seconds on people are told that something waits."""

    schedule: str = field(default="*/5 * * * *", metadata={"cron": True})
    lag_seconds: int = field(default=600, metadata={"low": 60, "high": 604_800})
    pending_seconds: int = field(default=900, metadata={"low": 60, "high": 604_800})
    unforwarded_seconds: int = field(default=900, metadata={"low": 60, "high": 604_800})


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """Where names come from; connection and query are those of the directory "table"."""

    directory: Literal["generated", "table"]
    connection: str = field(metadata={"pattern": r"[A-Za-z0-9_.-]+", "what": "an id of an Airflow connection"})
    query: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Redshift:
    """Where Redshift is, from the REDSHIFT_ variables; used where no connection ``redshift_default`` is defined."""

    host: str
    port: int
    db: str
    user: str
    password: str = field(repr=False)
    sslmode: str = "verify-ca"

    @property
    def options(self) -> dict[str, object]:
        """What redshift_connector is told besides (its README, "Connection Parameters")."""
        return {"ssl": False} if self.sslmode == "disable" else {"ssl": True, "sslmode": self.sslmode}


@dataclass(frozen=True, kw_only=True, slots=True)
class Slack:
    """Whom to post as, and where, from the SLACK_ variables; the token is used where no connection ``slack_default`` is defined."""

    token: str = field(repr=False)
    channel: str
    api_url: str = ""

    @property
    def options(self) -> dict[str, object]:
        """What slack_sdk is told besides."""
        return {"base_url": self.api_url} if self.api_url else {}


_SSLMODES = ("verify-ca", "verify-full", "disable")
_ROLE = r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """
    All that Polku can be told: the parameters of one stage, and the environment that holds addresses and secrets.

    Args:
        stage: POLKU_STAGE.
        environment: The variables that ``redshift``, ``slack`` and ``sentry_dsn`` look at.
        region_if_set: The parameter ``region``, "" where it is not set; use ``region``.
        bucket_if_set: The parameter ``bucket``, "" where it is not set; use ``bucket``.
        schema: The schema of all tables.
        iam_role: What COPY presents to S3: ARNs separated by commas, or "default".
        sources: "server", "client" or both.
        schedule: When the sources' DAGs run; cron, in UTC.
        owner: The DAGs' owner.
        retries: How often a failed task is tried again.
        retry_seconds: The wait before the first of these tries; it doubles each time.
        max_retry_seconds: The longest wait.
        task_timeout_seconds: When a task counts as hanging.
        run_timeout_seconds: When a run counts as hanging.
        drain: Bounds of a drain.
        load: Bounds of a load.
        notify: How log rows are forwarded.
        names: Where names come from.
        watch: When the pipeline is looked at, and what counts as too long.
    """

    stage: str = field(metadata={"given": True})
    environment: Mapping[str, str] = field(repr=False, metadata={"given": True})
    region_if_set: str = field(
        metadata={"key": "region", "pattern": r"|[a-z]{2}(-[a-z]+)+-\d", "what": "a region of AWS such as eu-west-1"}
    )
    bucket_if_set: str = field(
        metadata={"key": "bucket", "pattern": r"|[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "what": "a name of a bucket of S3"}
    )
    schema: str = field(metadata={"pattern": r"[a-z_][a-z0-9_]{0,126}", "what": "lower-case letters, digits and underscores"})
    iam_role: str = field(metadata={"pattern": rf"default|{_ROLE}(,{_ROLE})*", "what": 'an ARN of a role, or "default"'})
    sources: dict[str, Source] = field(metadata={"keys": ("server", "client")})
    schedule: str = field(metadata={"cron": True})
    owner: str
    retries: int = field(metadata={"low": 0, "high": 100})
    retry_seconds: int = field(metadata={"low": 1, "high": 3600})
    max_retry_seconds: int = field(metadata={"low": 1, "high": 86_400})
    task_timeout_seconds: int = field(metadata={"low": 60, "high": 86_400})
    run_timeout_seconds: int = field(metadata={"low": 60, "high": 604_800})
    drain: Drain
    load: Load
    notify: Notify
    names: Names
    watch: Watch = Watch()

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """
        Return the settings of the stage that the environment names.

        Args:
            env: The environment, usually ``os.environ``.

        Raises:
            SettingsError: The file is missing, unreadable, or has faults; all of them are listed.
        """
        stage = env.get("POLKU_STAGE") or DEFAULT_STAGE
        path = _find(env)
        faults: list[str] = []
        fields = _fields(cls, _of_stage(_parse(path, env, stage), stage, path), "", faults)
        if not faults:
            settings = cls(stage=stage, environment=dict(env), **fields)
            faults += _contradictions(settings)
        if faults:
            raise SettingsError(_listed(faults, f"{path}, stage {stage}"))
        return settings

    @property
    def region(self) -> str:
        """The AWS region; raises SettingsError where none is set."""
        return _needed(self.region_if_set, "region", "HUMILIS_AWS_REGION")

    @property
    def bucket(self) -> str:
        """The bucket of the stage; raises SettingsError where none is set."""
        return _needed(self.bucket_if_set, "bucket", "POLKU_BUCKET")

    @property
    def redshift(self) -> Redshift:
        """Where Redshift is; raises SettingsError that names every variable that is missing or wrong."""
        found = self._variables("redshift_default", "REDSHIFT_HOST", "REDSHIFT_DB", "REDSHIFT_USER", "REDSHIFT_PWD")
        port = self.environment.get("REDSHIFT_PORT") or "5439"
        if not port.isdecimal() or not 1 <= int(port) <= 65_535:  # noqa: PLR2004 -- the ports that there are
            raise SettingsError(f"REDSHIFT_PORT is {port!r}; expected 1 to 65535. Set it in the environment.")
        sslmode = self.environment.get("REDSHIFT_SSLMODE") or "verify-ca"
        if sslmode not in _SSLMODES:
            raise SettingsError(f"REDSHIFT_SSLMODE is {sslmode!r}; expected one of {', '.join(_SSLMODES)}. Set it in the environment.")
        return Redshift(host=found[0], port=int(port), db=found[1], user=found[2], password=found[3], sslmode=sslmode)

    @property
    def slack(self) -> Slack:
        """Whom to post as, and where; raises SettingsError that names every variable that is missing."""
        token, channel = self._variables("slack_default", "SLACK_TOKEN", "SLACK_CHANNEL")
        return Slack(token=token, channel=channel, api_url=self.environment.get("SLACK_API_URL", ""))

    @property
    def slack_channel(self) -> str:
        """The channel alone, where a connection gives the token; raises SettingsError where it is missing."""
        return self._variables(None, "SLACK_CHANNEL")[0]

    @property
    def sentry_dsn(self) -> str:
        """Where failures are reported to, or "": then they are not."""
        return self.environment.get("SENTRY_DSN", "")

    def shared(self, source: str) -> bool:
        """Tell whether another source names the same stream as this one."""
        stream = self.sources[source].stream
        return stream is not None and any(other.stream == stream for name, other in self.sources.items() if name != source)

    def _variables(self, connection: str | None, *names: str) -> list[str]:
        """Return these variables; raises SettingsError that names all that are missing."""
        missing = [name for name in names if not self.environment.get(name)]
        if missing:
            verb, them = ("is", "it") if len(missing) == 1 else ("are", "them")
            remedy = f", or define the Airflow connection {connection}" if connection else ""
            raise SettingsError(f"{', '.join(missing)} {verb} not set. Set {them} in the environment{remedy}.")
        return [self.environment[name] for name in names]


def _needed(value: str, key: str, variable: str) -> str:
    if not value:
        raise SettingsError(f"The parameter {key} is not set. Set {variable} in the environment, or {key} in {FILE}.")
    return value


# -- reading the file --------------------------------------------------------------------------------


def _find(env: Mapping[str, str]) -> Path:
    """Return the file's path: POLKU_PARAMETERS, or beside the folder of this package, or one above (and its dags/)."""
    if env.get("POLKU_PARAMETERS"):
        path = Path(env["POLKU_PARAMETERS"])
        if not path.is_file():
            raise SettingsError(f"POLKU_PARAMETERS is {str(path)!r}, and there is no such file.")
        return path
    plugins, root = Path(__file__).resolve().parents[1:3]
    places = [plugins / FILE, root / FILE, root / "dags" / FILE]
    for place in places:
        if place.is_file():
            return place
    raise SettingsError(f"{FILE} is in none of {', '.join(map(str, places))}. Put it there, or say in POLKU_PARAMETERS where it is.")


def _parse(path: Path, env: Mapping[str, str], stage: str) -> dict[str, Any]:
    """Render and read the file."""
    import jinja2
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that is there twice, where YAML lets the last one win in silence."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 -- as in the base
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for number, key in enumerate(keys):
                if key in keys[:number]:
                    raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", node.value[number][0].start_mark)
            return super().construct_mapping(node, deep)

    try:
        jinja = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 -- YAML, not HTML; values pass through tojson
        text = jinja.from_string(path.read_text(encoding="utf-8")).render(env=dict(env), stage=stage)
        plain = yaml.load(text, Loader=Loader)  # noqa: S506 -- a SafeLoader
    except jinja2.UndefinedError as error:
        variable = re.fullmatch(r"'dict object' has no attribute '(.+)'", str(error))
        reason = f"the environment variable {variable[1]} is not set; set it, or write `| default(...)` behind it" if variable else error
        raise SettingsError(f"{path} cannot be rendered: {reason}.") from error
    except jinja2.TemplateError as error:
        raise SettingsError(f"{path} cannot be rendered: line {getattr(error, 'lineno', '?')}: {error}.") from error
    except yaml.YAMLError as error:
        problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
        # The whole text of a YAMLError quotes the line, which may hold a value that the environment gave.
        raise SettingsError(f"{path} is no YAML once it is rendered: {problem}, line {mark.line + 1 if mark else '?'}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.") from error
    if not isinstance(plain, dict):
        raise SettingsError(f"{path} holds no sections; expected _default and one for each stage.")
    return plain


def _of_stage(plain: dict[str, Any], stage: str, path: Path) -> dict[str, Any]:
    """Return ``_default`` with the stage's own section laid over it."""
    if stage not in plain or stage == "_default":
        raise SettingsError(f"POLKU_STAGE is {stage!r}, and {path} has no such section{_guess(stage, plain.keys() - {'_default'})}.")
    sections = [plain.get("_default"), plain[stage]]
    for name, section in zip(("_default", stage), sections, strict=True):
        if section is not None and not isinstance(section, dict):
            raise SettingsError(f"{path}: {name} is {section!r:.40}; expected parameters below it.")
    return _laid_over(sections[0] or {}, sections[1] or {})


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return the merge of two mappings: mappings are merged key by key, anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _laid_over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


# -- from plain values to typed ones -----------------------------------------------------------------


def _fields(kind: type, plain: object, path: str, faults: list[str]) -> dict[str, Any]:
    """Return the fields of a dataclass as the plain mapping gives them; what is wrong is added to the faults."""
    if not isinstance(plain, dict):
        faults.append(f"{path} is {plain!r:.60}; expected parameters below it")
        return {}
    expected = {f.metadata.get("key", f.name): f for f in dataclasses.fields(kind) if not f.metadata.get("given")}
    prefix = f"{path}." if path else ""
    faults += [f"{prefix}{key} is no parameter{_guess(str(key), expected.keys() - plain.keys())}" for key in plain if key not in expected]
    hints = typing.get_type_hints(kind)
    found = {}
    for key, item in expected.items():
        if key in plain:
            found[item.name] = _value(hints[item.name], plain[key], prefix + key, item.metadata, faults)
        elif item.default is dataclasses.MISSING:
            faults.append(f"{prefix}{key} is missing; expected {_expectation(hints[item.name], item.metadata)}")
    return found


def _value(hint: Any, plain: object, path: str, rule: Mapping[str, Any], faults: list[str]) -> Any:
    """Return one parameter as its type wants it; None, and a fault, where it cannot be."""
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)  # noqa: S101 -- hints are types
        before = len(faults)
        fields = _fields(hint, plain, path, faults)
        return hint(**fields) if len(faults) == before else None
    if typing.get_origin(hint) is dict:
        return _mapping(typing.get_args(hint)[1], plain, path, rule, faults)
    if type(None) in typing.get_args(hint):
        if plain is None:
            return None
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if not _fits(hint, plain, rule):
        faults.append(f"{path} is {plain!r:.60}; expected {_expectation(hint, rule)}")
    return plain


def _mapping(kind: type, plain: object, path: str, rule: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """Return a mapping of names to dataclasses; a name whose value is null is left out."""
    if not isinstance(plain, dict):
        faults.append(f"{path} is {plain!r:.60}; expected parameters below it")
        return {}
    left = set(rule["keys"]) - plain.keys()
    faults += [f"{path}.{key} is no parameter{_guess(str(key), left)}" for key in plain if key not in rule["keys"]]
    return {key: _value(kind, plain[key], f"{path}.{key}", {}, faults) for key in rule["keys"] if plain.get(key) is not None}


def _fits(hint: Any, plain: object, rule: Mapping[str, Any]) -> bool:
    """Tell whether a plain value is what a parameter may be."""
    if typing.get_origin(hint) is Literal:
        return plain in typing.get_args(hint)
    if hint in (int, float):
        kinds = (int,) if hint is int else (int, float)
        return type(plain) in kinds and rule["low"] <= plain <= rule["high"]
    if type(plain) is not hint:
        return False
    if rule.get("cron"):
        return _is_cron(str(plain))
    return "pattern" not in rule or bool(re.fullmatch(rule["pattern"], str(plain)))


def _expectation(hint: Any, rule: Mapping[str, Any]) -> str:
    """Say what a parameter may be."""
    if typing.get_origin(hint) is Literal:
        return " or ".join(typing.get_args(hint))
    if dataclasses.is_dataclass(hint) or typing.get_origin(hint) is dict:
        return "parameters below it"
    if rule.get("cron"):
        return 'a cron expression of five fields such as "* * * * *"'
    if "what" in rule:
        return str(rule["what"])
    if hint in (int, float):
        return f"a {'whole ' if hint is int else ''}number, {rule['low']} to {rule['high']}"
    return {bool: "true or false", str: "text"}.get(hint, str(hint))


def _is_cron(text: str) -> bool:
    from croniter import croniter

    return len(text.split()) == 5 and croniter.is_valid(text)  # noqa: PLR2004 -- minute, hour, day, month, weekday


def _contradictions(settings: Settings) -> list[str]:
    """Return what is wrong about parameters that are right one by one."""
    faults = []
    if not settings.sources:
        faults.append("sources holds no source; expected server, client or both")
    prefixes: dict[str, str] = {}
    for name, source in settings.sources.items():
        if source.stream is None and source.buffer_prefix is None:
            faults.append(f"sources.{name} has neither a stream nor a buffer_prefix; give it one, or make it null")
        if (prefix := source.buffer_prefix) is None:
            continue
        faults += [
            f"sources.{name}.buffer_prefix is {prefix!r}, where {owner} is; expected a place of its own"
            for owner, taken in [
                *((f"sources.{other}", p) for other, p in prefixes.items()),
                *((f"Polku's own {p}", p) for p in _OWN_PREFIXES),
            ]
            if prefix.startswith(taken) or taken.startswith(prefix)
        ]
        prefixes[name] = prefix
    if settings.max_retry_seconds < settings.retry_seconds:
        faults.append(f"max_retry_seconds is {settings.max_retry_seconds}; expected at least retry_seconds, {settings.retry_seconds}")
    if settings.task_timeout_seconds <= settings.drain.max_seconds:
        faults.append(
            f"drain.max_seconds is {settings.drain.max_seconds}; expected less than task_timeout_seconds, {settings.task_timeout_seconds}"
        )
    return faults


def _guess(word: str, known: typing.Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; expected one of {', '.join(sorted(known))}" if known else ""


def _listed(faults: list[str], where: str) -> str:
    """Return all faults as one message, one a line where there are several."""
    if len(faults) == 1:
        return f"{where}: {faults[0]}."
    more = [f"and {len(faults) - _MANY} more"] if len(faults) > _MANY else []
    return f"{where}: {len(faults)} faults:" + "".join(f"\n- {fault}" for fault in faults[:_MANY] + more)
