"""Settings: where values come from, and the errors for invalid ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from holdfast.base.errors import BadSetting
from holdfast.settings import Settings, load, origins, variable
from tests.doubles.disk import FileOfAnotherUser

NO_FILE = Path("no-such-file.toml")


def refused(environment: dict[str, str] | None = None, *, file: Path = NO_FILE) -> str:
    with pytest.raises(BadSetting) as caught:
        load(environment or {}, file=file)
    return caught.value.sentence


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "holdfast.toml"


def test_without_environment_and_file_there_are_the_documented_defaults() -> None:
    """The defaults are those of the documentation."""
    settings = load({}, file=NO_FILE)
    assert (settings.host, settings.port, settings.data_dir) == ("127.0.0.1", 3000, Path("holdfast-data"))
    assert (settings.keepalive_interval_s, settings.keepalive_presence) == (30, True)
    assert (settings.backoff_base_ms, settings.backoff_factor, settings.backoff_cap_ms) == (1000, 1.5, 60_000)
    assert settings.whatsapp_url is None
    assert settings.api_key is None


def test_environment_overrides_file_and_file_overrides_default(toml: Path) -> None:
    """The source with precedence wins, and its origin is known."""
    toml.write_text('port = 4000\nhost = "127.0.0.2"\n')
    environment = {"HOLDFAST_PORT": "5000"}
    settings = load(environment, file=toml)
    assert (settings.port, settings.host, settings.log_level) == (5000, "127.0.0.2", "info")
    assert origins(environment, file=toml) == {"port": "environment", "host": str(toml)}


def test_sections_of_the_file_flatten_into_names(toml: Path) -> None:
    """`[backoff] base_ms` is `HOLDFAST_BACKOFF_BASE_MS`, whatever the case."""
    toml.write_text("[backoff]\nbase_ms = 500\n[KeepAlive]\nInterval_S = 12.5\n")
    settings = load({}, file=toml)
    assert (settings.backoff_base_ms, settings.keepalive_interval_s) == (500, 12.5)


def test_trusted_proxies_are_addresses_and_networks() -> None:
    """Networks are normalised; anything else is refused, because an unknown name would trust nobody or everybody."""
    assert load({}, file=NO_FILE).trusted_proxies == "127.0.0.1,::1"
    settings = load({"HOLDFAST_TRUSTED_PROXIES": "10.0.0.0/8 192.168.1.7"}, file=NO_FILE)
    assert settings.trusted_proxies == "10.0.0.0/8,192.168.1.7/32"
    for wrong in ("*", "proxy.internal", "10.0.0.1/8"):
        sentence = refused({"HOLDFAST_TRUSTED_PROXIES": wrong})
        assert sentence.startswith(f'HOLDFAST_TRUSTED_PROXIES is "{wrong}": give addresses and networks such as')


def test_an_empty_value_is_none(toml: Path) -> None:
    """A variable that is set to nothing, as compose files do, leaves the default; a data folder "" would be the cwd."""
    toml.write_text('api_key = ""\n')
    settings = load({"HOLDFAST_DATA_DIR": "", "HOLDFAST_PORT": ""}, file=toml)
    assert (settings.data_dir, settings.port, settings.api_key) == (Path("holdfast-data"), 3000, None)
    assert origins({"HOLDFAST_DATA_DIR": ""}, file=toml) == {}


def test_the_cache_folder_follows_xdg_unless_it_is_set() -> None:
    """The folder for caches comes from the given environment, not from that of the process."""
    assert load({"XDG_CACHE_HOME": "/caches"}, file=NO_FILE).cache_dir == Path("/caches/holdfast")
    named = {"XDG_CACHE_HOME": "/caches", "HOLDFAST_CACHE_DIR": "/mine"}
    assert load(named, file=NO_FILE).cache_dir == Path("/mine")


def test_a_home_in_a_path_is_expanded(toml: Path) -> None:
    """No shell expands `~` in a file."""
    toml.write_text('data_dir = "~/holdfast"\n')
    assert load({}, file=toml).data_dir == Path.home() / "holdfast"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "abc", 'HOLDFAST_PORT is "abc": give a whole number from 0 to 65535 – '),
        ("PORT", "65536", 'HOLDFAST_PORT is "65536": give a whole number from 0 to 65535 – '),
        ("PORT", "-1", 'HOLDFAST_PORT is "-1": give a whole number from 0 to 65535 – '),
        ("PORT", "3.5", 'HOLDFAST_PORT is "3.5": give a whole number from 0 to 65535 – '),
        ("KEEPALIVE_INTERVAL_S", "4.9", 'HOLDFAST_KEEPALIVE_INTERVAL_S is "4.9": give a number from 5 to 300 – '),
        ("KEEPALIVE_INTERVAL_S", "301", 'HOLDFAST_KEEPALIVE_INTERVAL_S is "301": give a number from 5 to 300 – '),
        ("KEEPALIVE_INTERVAL_S", "nan", 'HOLDFAST_KEEPALIVE_INTERVAL_S is "nan": give a number from 5 to 300 – '),
        ("KEEPALIVE_PRESENCE", "maybe", 'HOLDFAST_KEEPALIVE_PRESENCE is "maybe": give on or off – '),
        ("BACKOFF_BASE_MS", "99", 'HOLDFAST_BACKOFF_BASE_MS is "99": give a whole number from 100 to 60000 – '),
        ("BACKOFF_FACTOR", "0.9", 'HOLDFAST_BACKOFF_FACTOR is "0.9": give a number from 1 to 10 – '),
        ("BACKOFF_FACTOR", "inf", 'HOLDFAST_BACKOFF_FACTOR is "inf": give a number from 1 to 10 – '),
        ("BACKOFF_CAP_MS", "60001", 'HOLDFAST_BACKOFF_CAP_MS is "60001": give a whole number from 1000 to 60000 – '),
        ("LOG_LEVEL", "loud", 'HOLDFAST_LOG_LEVEL is "loud": give debug, info, warning or error – '),
        ("WHATSAPP_URL", "http://x", 'HOLDFAST_WHATSAPP_URL is "http://x": give an address that begins with ws:// or'),
        ("WHATSAPP_URL", "ws://", 'HOLDFAST_WHATSAPP_URL is "ws://": give an address that begins with ws:// or wss://'),
        ("WHATSAPP_VERSION", "2.2", 'HOLDFAST_WHATSAPP_VERSION is "2.2": give auto, or a version such as 2.3000.'),
        ("NODE", "my node", 'HOLDFAST_NODE is "my node": give 1 to 64 letters, digits, dots, colons,'),
        ("DEVICE_NAME", "a\tb", 'HOLDFAST_DEVICE_NAME is "a\tb": give a name of 1 to 50 visible characters, such as'),
        ("URL", "localhost:3000", 'HOLDFAST_URL is "localhost:3000": give an address that begins with http:// or'),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_variable_value_and_range(
    name: str, value: str, sentence: str
) -> None:
    """One sentence names the variable, its value, and what is allowed."""
    assert refused({f"HOLDFAST_{name}": value}).startswith(sentence)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("keepalive_interval_s", ["5", "300"]),
        ("backoff_base_ms", ["100", "60000"]),
        ("backoff_factor", ["1", "10"]),
        ("backoff_cap_ms", ["1000", "60000"]),
        ("port", ["0", "65535"]),
        ("log_level", ["debug", "INFO", "Warning"]),
        ("keepalive_presence", ["on", "off", "true", "0"]),
        ("whatsapp_url", ["ws://127.0.0.1:5000", "wss://wa.example/ws/chat"]),
    ],
)
def test_the_ends_of_each_range_are_allowed(name: str, values: list[str]) -> None:
    """Bounds are allowed values; the two numbers of the backoff are chosen to fit together."""
    for value in values:
        together = {"HOLDFAST_BACKOFF_BASE_MS": "100"} if name == "backoff_cap_ms" else {}
        load({variable(name): value, **together}, file=NO_FILE)


def test_a_backoff_whose_base_is_above_its_cap_is_refused() -> None:
    """Such a formula is a mistake, because every delay would be the cap."""
    sentence = refused({"HOLDFAST_BACKOFF_BASE_MS": "2000", "HOLDFAST_BACKOFF_CAP_MS": "1000"})
    assert sentence == (
        "HOLDFAST_BACKOFF_BASE_MS is 2000 and HOLDFAST_BACKOFF_CAP_MS is 1000: the base may not be above the cap"
    )


def test_an_unknown_setting_is_refused_with_the_one_that_was_probably_meant(toml: Path) -> None:
    """A misspelt setting must not be ignored; its value is not shown, because it may be a secret."""
    assert refused({"HOLDFAST_PROT": "1"}) == "HOLDFAST_PROT is not a setting of Holdfast: do you mean HOLDFAST_PORT?"
    assert refused({"HOLDFAST_XYZZY": "1"}).endswith(
        "is not a setting of Holdfast: `holdfast settings` lists all settings"
    )
    toml.write_text("[keepalive]\ninterval = 30\n")
    assert refused(file=toml) == (
        f"HOLDFAST_KEEPALIVE_INTERVAL (in {toml}) is not a setting of Holdfast: "
        "do you mean HOLDFAST_KEEPALIVE_INTERVAL_S?"
    )


def test_a_bad_value_in_the_file_is_placed_there(toml: Path) -> None:
    """The sentence says where the value is; a value in the environment is named without a file."""
    toml.write_text("port = [1]\n")
    assert refused(file=toml).startswith(f'HOLDFAST_PORT (in {toml}) is "[1]": give a whole number')
    assert refused({"HOLDFAST_PORT": "x"}, file=toml).startswith('HOLDFAST_PORT is "x": give a whole number')


def test_all_invalid_settings_are_reported_at_once() -> None:
    """Nobody should have to start five times to learn about five mistakes."""
    sentence = refused({"HOLDFAST_PORT": "x", "HOLDFAST_LOG_LEVEL": "y"})
    assert "HOLDFAST_PORT is" in sentence
    assert "HOLDFAST_LOG_LEVEL is" in sentence


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"port = \n", "is not TOML: Invalid value"),
        (b"\xff\xfe", "is not TOML: 'utf-8' codec"),
        (None, "can't be read: Is a"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(toml: Path, content: bytes | None, what: str) -> None:
    """Broken TOML, another encoding, and a folder in the file's place."""
    if content is None:
        toml.mkdir()
    else:
        toml.write_bytes(content)
    assert refused(file=toml).startswith(f"{toml} {what}")


def test_a_file_of_another_user_says_who_may_read_it() -> None:
    """As when somebody runs a command in `/etc/holdfast` without `sudo -u holdfast`."""
    sentence = refused(file=FileOfAnotherUser("/etc/holdfast/holdfast.toml"))
    assert sentence == "/etc/holdfast/holdfast.toml can't be read by this user: run this as the user of Holdfast"


SECRETS = {
    "backup_passphrase": "correct horse battery staple",
    "api_key": "a-very-secret-key",
    "redis_url": "redis://:very-secret@127.0.0.1:6379/0",
    "alert_urls": "mailto://somebody:very-secret@mail.example",
    "database_url": "postgresql://somebody:very-secret@127.0.0.1/holdfast",
    "webhook_url": "https://crm.example/very-secret",
    "proxy_url": "socks5://somebody:very-secret@127.0.0.1:1080",
    "webhook_secret": "whsec_dmVyeS1zZWNyZXQtdmVyeS1zZWNyZXQ=",
}


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_never_shown(name: str, toml: Path) -> None:
    """They are hidden in errors, and when settings are printed or dumped."""
    secret = SECRETS[name]
    toml.write_text(f'{name} = ["{secret}"]\n')
    with pytest.raises(BadSetting) as caught:
        load({}, file=toml)
    assert caught.value.sentence.startswith(f"{variable(name)} (in {toml}) is (hidden): give ")
    assert "very-secret" not in f"{caught.value} {caught.value.__cause__}"
    settings = load({variable(name): secret}, file=NO_FILE)
    assert getattr(settings, name) == secret
    assert "very-secret" not in f"{settings} {settings!r} {json.dumps(settings.model_dump(mode='json'))}"
    assert settings.model_dump(mode="json")[name] == "(set)"


def test_every_secret_is_hidden_everywhere() -> None:
    """A setting that is hidden in one place is hidden everywhere, and is covered by the test above."""
    hidden = {name for name, field in Settings.model_fields.items() if not field.repr}
    dumped = load({variable(name): secret for name, secret in SECRETS.items()}, file=NO_FILE).model_dump(mode="json")
    assert hidden == {name for name, value in dumped.items() if value == "(set)"} == set(SECRETS)


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "http://127.0.0.1:3000"),
        ({"HOLDFAST_PORT": "3402"}, "http://127.0.0.1:3402"),
        ({"HOLDFAST_HOST": "0.0.0.0"}, "http://127.0.0.1:3000"),
        ({"HOLDFAST_HOST": "::"}, "http://[::1]:3000"),
        ({"HOLDFAST_HOST": "holdfast.lan"}, "http://holdfast.lan:3000"),
        ({"HOLDFAST_PORT": "1", "HOLDFAST_URL": "https://gate.example"}, "https://gate.example"),
    ],
)
def test_commands_look_where_the_server_with_the_same_settings_listens(environment: dict[str, str], url: str) -> None:
    """One environment is enough for `serve` and for the other commands."""
    assert load(environment, file=NO_FILE).server_url == url


def test_every_setting_has_a_description() -> None:
    """`holdfast settings` prints these."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
