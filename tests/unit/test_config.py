"""Settings."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from headrace.config import (
    IngestSettings,
    ServeSettings,
    UpSettings,
    explain_settings,
    find_or_make_secret,
    load_settings,
)
from headrace.errors import ConfigError
from headrace.settings import as_flags

if TYPE_CHECKING:
    from pathlib import Path


def test_settings_flag_wins_over_environment_wins_over_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The nearest says what is in force."""
    assert load_settings(UpSettings, {}).port == 8000
    monkeypatch.setenv("HEADRACE_PORT", "8010")
    assert load_settings(UpSettings, {"port": None}).port == 8010
    assert load_settings(UpSettings, {"port": "8020"}).port == 8020


def test_settings_that_nobody_said_are_those_of_the_fly_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Region, machine, address and bucket are those of Fly's variables, unless others are said."""
    told = {
        "FLY_REGION": "ams",
        "FLY_MACHINE_ID": "3d8d9d4b",
        "FLY_PRIVATE_IP": "fdaa:0:18:a7b::2",
        "BUCKET_NAME": "acme-headrace",
        "AWS_ENDPOINT_URL_S3": "https://fly.storage.tigris.dev",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)

    origins = {each.name: each.origin for each in explain_settings(ServeSettings, {})}
    assert (origins["region"], origins["store"]) == ("FLY_REGION", "BUCKET_NAME")
    for settings in (load_settings(IngestSettings, {}), load_settings(ServeSettings, {})):
        assert (settings.region, settings.machine) == ("ams", "3d8d9d4b")
        assert settings.address == "fdaa:0:18:a7b::2"
        assert settings.store == "s3://acme-headrace"

    (tmp_path / "headrace.toml").write_text('region = "here"\nstore = "/srv/store"\n')
    said = load_settings(ServeSettings, {"data": str(tmp_path), "machine": "mine"})
    assert (said.region, said.machine, said.store) == ("here", "mine", "/srv/store")


def test_bucket_without_an_endpoint_is_not_taken_for_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bucket's name alone does not say of which kind of store it is."""
    monkeypatch.setenv("BUCKET_NAME", "somebody-elses")
    assert load_settings(IngestSettings, {}).store is None


def test_settings_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the flag and the variable, whichever it came from."""
    monkeypatch.setenv("HEADRACE_READERS", "many")
    with pytest.raises(ConfigError, match=r"--readers \(HEADRACE_READERS\)"):
        load_settings(UpSettings, {})


def test_everything_on_one_machine_counts_its_ports_from_one_that_is_said() -> None:
    """Each part alone may have its port picked; together they find each other by their ports."""
    assert load_settings(IngestSettings, {"port": "0"}).port == 0
    with pytest.raises(ConfigError, match=r"--port \(HEADRACE_PORT\): 0"):
        load_settings(UpSettings, {"port": "0"})


def test_settings_take_sizes_with_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size may be written as people say it, and is handed on as bytes."""
    monkeypatch.setenv("HEADRACE_CONVERT_OUTPUT", "1.5 MiB")
    settings = load_settings(UpSettings, {"convert_memory": "2GiB"})
    assert (settings.convert_memory, settings.convert_output) == (2 * 1024**3, 3 * 1024**2 // 2)
    assert as_flags(settings, ["convert_memory"]) == ["--convert-memory", str(2 * 1024**3)]
    with pytest.raises(ConfigError, match="--convert-memory"):
        load_settings(UpSettings, {"convert_memory": "1KiB"})


def test_settings_never_print_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token does not show where settings are printed."""
    monkeypatch.setenv("HEADRACE_TOKEN", "very-secret")
    assert "very-secret" not in repr(load_settings(UpSettings, {}))


def test_as_flags_hands_on_what_is_set() -> None:
    """A child process gets the same settings as flags."""
    settings = load_settings(UpSettings, {"max_upload": "5", "datasette_dir": None})
    assert as_flags(settings, ["max_upload", "datasette_dir"]) == ["--max-upload", "5"]


def test_secret_is_made_once_and_only_for_us(tmp_path: Path) -> None:
    """A generated secret is kept, in a file that only its owner can read."""
    path = tmp_path / "data" / "token"
    secret = find_or_make_secret(path)
    assert find_or_make_secret(path) == secret
    assert len(secret) > 30
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def _config(folder: Path, text: str) -> dict[str, str]:
    (folder / "my.toml").write_text(text)
    return {"config": str(folder / "my.toml")}


def test_settings_of_file_give_way_to_environment_and_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file says what nothing nearer does, and one file serves all commands."""
    flags = _config(tmp_path, "port = 1\nreaders = 2\nmax_upload = 3\n")
    monkeypatch.setenv("HEADRACE_READERS", "20")
    settings = load_settings(UpSettings, {**flags, "port": "30"})
    assert (settings.port, settings.readers, settings.max_upload) == (30, 20, 3)
    assert load_settings(ServeSettings, flags).port == 1


def test_settings_of_data_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the usual name in the data folder needs no flag."""
    (tmp_path / "headrace.toml").write_text("port = 1234\n")
    assert load_settings(UpSettings, {"data": str(tmp_path)}).port == 1234
    monkeypatch.setenv("HEADRACE_DATA", str(tmp_path))
    assert load_settings(UpSettings, {}).port == 1234


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port = ", "cannot read"),
        ("porrt = 1", "'porrt' is no setting"),
        ("data = 'x'", "'data' is no setting"),
        ("port = 'many'", "--port"),
        ("[converters.x]\nmatch = '*.x'", r"\[converters.x\] command: field required"),
        ("[converters.x]\ncommand = 'true {input} {output}'", r"\[converters.x\] match"),
        (
            "[converters.x]\nmatch = []\ncommand = 'true {input} {output}'",
            r"\[converters.x\] match",
        ),
        ("[converters.x]\nmatch = '*'\nshell = 1\ncommand = 'true {input} {output}'", "shell"),
        ("converters = 1", "converters"),
    ],
)
def test_settings_of_file_that_do_not_fit_are_named(tmp_path: Path, text: str, words: str) -> None:
    """Nothing in the file is passed over in silence."""
    with pytest.raises(ConfigError, match=words):
        load_settings(IngestSettings, _config(tmp_path, text))


def test_settings_of_file_that_is_not_there_are_an_error(tmp_path: Path) -> None:
    """A file that was asked for is not just passed over."""
    with pytest.raises(ConfigError, match=r"find no .*my\.toml"):
        load_settings(UpSettings, {"config": str(tmp_path / "my.toml")})


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "empty"),
        ("'sh {input} {output}", "quotation"),
        ("sh {output}", "{input} is missing"),
        ("sh {input}", "{output} is missing"),
        ("sh {input} {output} {database}", "{database} is not known"),
        ("sh {input.name} {output}", "{input.name} is not known"),
        ("sh {input!r} {output}", "more than a name"),
        ("sh {} {input} {output}", "{} is not known"),
        ("sh {input} {output", "expected '}'"),
        ("no-such-program {input} {output}", "find no program 'no-such-program'"),
        ("./no/such/program {input} {output}", "find no program"),
    ],
)
def test_command_that_cannot_work_is_told_at_start(
    tmp_path: Path, command: str, words: str
) -> None:
    """A command is looked at when the settings are read, not when the first file comes."""
    text = f'[converters.x]\nmatch = "*.x"\ncommand = """{command}"""\n'
    with pytest.raises(ConfigError) as caught:
        load_settings(IngestSettings, _config(tmp_path, text))
    assert str(caught.value).startswith("cannot use [converters.x] command: ")
    assert words in str(caught.value)


def test_command_is_split_without_a_shell(tmp_path: Path) -> None:
    """Quotes and doubled braces are understood, `$` and `;` are characters like others."""
    text = (
        """[converters.x]\nmatch = "*.x"\ncommand = "sh 'a b' $x; {{}} --in={input} {output}"\n"""
    )
    settings = load_settings(IngestSettings, _config(tmp_path, text))
    program, *arguments = settings.converters["x"].arguments()
    assert program.endswith("/sh")
    assert arguments == ["a b", "$x;", "{{}}", "--in={input}", "{output}"]
    assert settings.converters["x"].match == ("*.x",)


def test_commands_of_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """`headrace up` hands its commands on to the primary."""
    command = '{"x": {"match": ["*.x", "*.y"], "command": "sh {input} {output}"}}'
    monkeypatch.setenv("HEADRACE_CONVERTERS", command)
    assert load_settings(IngestSettings, {}).converters["x"].match == ("*.x", "*.y")
    monkeypatch.setenv("HEADRACE_CONVERTERS", "{")
    with pytest.raises(ConfigError):
        load_settings(IngestSettings, {})


def test_setting_misspelled_is_refused_with_what_may_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file and in the environment; what others have in the environment is theirs."""
    file = tmp_path / "headrace.toml"
    file.write_text("wokers = 2\n")
    with pytest.raises(ConfigError, match="'wokers' is no setting") as caught:
        load_settings(UpSettings, {"config": file})
    assert caught.value.hint == "did you mean workers?"
    monkeypatch.setenv("HEADRACE_PORT_8000_TCP", "tcp://10.0.0.1:8000")  # as Kubernetes has it
    assert load_settings(UpSettings, {}).port == 8000
    monkeypatch.setenv("HEADRACE_MAX_UPLAODS", "1 GB")
    with pytest.raises(ConfigError, match="HEADRACE_MAX_UPLAODS") as caught:
        load_settings(UpSettings, {})
    assert caught.value.hint == "did you mean HEADRACE_MAX_UPLOAD?"


def test_letters_that_changed_places_are_noticed_in_short_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that is not the one that was said is hard to find; Kubernetes' variables stay."""
    monkeypatch.setenv("HEADRACE_SERVICE_PORT", "8000")
    assert load_settings(UpSettings, {}).port == 8000
    with pytest.raises(ConfigError) as caught:
        load_settings(UpSettings, _config(tmp_path, "prot = 3"))
    assert caught.value.hint == "did you mean port?"
    with pytest.raises(ConfigError) as caught:
        load_settings(UpSettings, _config(tmp_path, "zzz = 3"))
    assert caught.value.hint == "`headrace config up` lists all"
    monkeypatch.setenv("HEADRACE_PROT", "1")
    with pytest.raises(ConfigError, match="HEADRACE_PROT") as caught:
        load_settings(UpSettings, {})
    assert caught.value.hint == "did you mean HEADRACE_PORT?"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("on_generation", "curl -H 'Authorization: Bearer hush' https://x", "(hidden)"),
        ("on_generation", "python:purging:purge", "python:purging:purge"),
        ("store", "s3://b/x?endpoint=https://hush.example.org", "s3://b/x"),
        ("primary", "http://primary.internal:8100", "http://primary.internal:8100"),
    ],
)
def test_explained_setting_shows_no_secret(name: str, value: str, shown: str) -> None:
    """`headrace config` is pasted into questions; nodes get the whole value all the same."""
    said = {name: value}
    found = {each.name: each.value for each in explain_settings(ServeSettings, said)}
    assert found[name] == shown
    assert getattr(load_settings(ServeSettings, said), name) == value


def test_explained_places_show_no_queries() -> None:
    """What is watched is shown as the store is, each of several."""
    places = ("s3://b/x?endpoint=https://hush.example.org", "/srv/in")
    found = {each.name: each.value for each in explain_settings(UpSettings, {"watch": places})}
    assert found["watch"] == "s3://b/x file:///srv/in"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("primary", "http://user:hush@primary:8100"),
        ("primary", "http://hush@primary:8100"),
        ("primary", "http://primary:8100/?token=hush"),
        ("primary", "ftp://hush"),
        ("store", "s3://:hush@b/x"),
        ("store", "s3://b/x?secret_access_key=hush"),
        ("watch", "s3://b/x?secret_access_key=hush"),
        ("watch", "s3://user:hush@b/x"),
    ],
)
def test_credentials_in_a_url_are_refused_and_not_told(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by a node, nor by what explains what a node would do, doctor included."""
    kind = IngestSettings if name == "watch" else ServeSettings
    monkeypatch.setenv(f"HEADRACE_{name.upper()}", value)
    for read in (load_settings, explain_settings):
        with pytest.raises(ConfigError) as caught:
            read(kind, {})
        assert "hush" not in f"{caught.value} {caught.value.hint}"


def test_token_in_the_file_is_refused(tmp_path: Path) -> None:
    """Others may read the file; and so it is said in the reference."""
    with pytest.raises(ConfigError, match="'token' is a secret") as caught:
        load_settings(UpSettings, _config(tmp_path, 'token = "hush"'))
    assert "HEADRACE_TOKEN" in (caught.value.hint or "")
    assert "hush" not in f"{caught.value}"
