"""What Fly asks of a fly.toml: each rule with its source, and with what it is broken by.

`fly config validate --strict` needs an account, so its rules are written down here, and those that
Fly's documentation alone has. Sources, as of August 2026: superfly/flyctl ad0172f, superfly/fly-go
22d6e51, superfly/docs 5c22c8c.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Fly = dict[str, Any]

_VALIDATION = "flyctl, internal/appconfig/validation.go, "
_GROUPS = "flyctl, internal/appconfig/processgroups.go, "
_MACHINES = "flyctl, internal/appconfig/machines.go, "
_CONFIGURATION = "docs, reference/configuration.html.markerb, "
GROUPED = ("mounts", "metrics", "vm", "restart", "services")  # arrays of tables, of some groups

# The tables of a file, by their path, and the keys of each. Source: the tags of the structures in
# internal/appconfig/config.go, service.go and toplevelcheck.go, and in machine_types.go of fly-go.
_CHECK = (
    "interval timeout grace_period method path protocol tls_skip_verify tls_server_name headers"
)
_AUTO = "auto_stop_machines auto_start_machines min_machines_running"
_KEYS = {
    "": "app primary_region kill_signal kill_timeout swap_size_mb console_command experimental "
    "build deploy env processes mounts http_service services checks files host_dedication_id "
    "machine_config container machine_checks restart vm statics metrics",
    "build": "builder args buildpacks image settings builtin dockerfile ignorefile build-target "
    "compose compression compression_level",
    "deploy": "strategy max_unavailable wait_timeout release_command release_command_timeout "
    "release_command_vm seed_command",
    "mounts": "source destination initial_size snapshot_retention scheduled_snapshots "
    "auto_extend_size_threshold auto_extend_size_increment auto_extend_size_limit processes",
    "http_service": f"internal_port force_https {_AUTO} processes concurrency tls_options "
    "http_options checks machine_checks",
    "http_service.concurrency": "type hard_limit soft_limit",
    "http_service.http_options": "compress response h2_backend idle_timeout headers_read_timeout "
    "replay_cache",
    "http_service.checks": _CHECK,
    "services": f"protocol internal_port {_AUTO} ports concurrency tcp_checks http_checks "
    "machine_checks processes",
    "checks.*": f"port type processes {_CHECK}",
    "restart": "policy retries processes",
    "metrics": "port path https processes",
    "vm": "size memory cpu_kind cpus memory_mb max_memory_mb gpus gpu_kind host_dedication_id "
    "persist_rootfs kernel_args processes",
}
_OPEN = {"env", "processes", "checks"}  # with keys of any name

_SIGNALS = {"SIGINT", "SIGTERM", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGSTOP"}
_PRESET = re.compile(r"(shared-cpu|performance)-(\d+)x")
_CPUS = {"shared-cpu": {1, 2, 4, 6, 8}, "performance": {1, 2, *range(4, 17, 2)}}
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_MIB = {"": 1, "mb": 1, "gb": 1024}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a file has to keep to.

    Attributes:
        says: The rule.
        source: Where Fly says so.
        faults: Finds what breaks it.
        broken: Changes a file that keeps to it into one that does not.
    """

    says: str
    source: str
    faults: Callable[[Fly], Iterator[Any]]
    broken: Callable[[Fly], Any]


def tables(fly: Fly, name: str) -> list[Fly]:
    """Give the tables of a name; one that is not in an array is one of an array."""
    found = fly.get(name, [])
    return found if isinstance(found, list) else [found]


def of_group(fly: Fly, name: str, group: str) -> list[Fly]:
    """Give those tables of a name that are one group's."""
    return [each for each in tables(fly, name) if group in each.get("processes", [])]


def seconds(text: str | float) -> float:
    """Read a duration, as Go writes it; a bare number is seconds (``kill_timeout``)."""
    if not isinstance(text, str):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if not parts or "".join(map("".join, parts)) != text:
        raise ValueError(f"{text!r} is no duration")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def mebibytes(text: str | int) -> int:
    """Read a size; a bare number is megabytes."""
    parts = re.fullmatch(r"(\d+)\s*([a-z]*)", str(text).lower())
    if parts is None or parts[2] not in _MIB:
        raise ValueError(f"{text!r} is no size")
    return int(parts[1]) * _MIB[parts[2]]


def _unknown_keys(fly: Fly) -> Iterator[str]:
    for path, table in _within(fly, ""):
        if path not in _OPEN:
            known = _KEYS.get(path, "").split()
            yield from (f"{path}.{key}" for key in table if key not in known)


def _within(value: Any, path: str) -> Iterator[tuple[str, Fly]]:
    """Give each table of a file with its path; a check's name is a star there."""
    if isinstance(value, list):
        for each in value:
            yield from _within(each, path)
    elif isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            name = "*" if path == "checks" else key
            yield from _within(inner, f"{path}.{name}".lstrip("."))


def _services(fly: Fly) -> list[Fly]:
    return [*tables(fly, "http_service"), *tables(fly, "services")]


def _service_checks(fly: Fly) -> Iterator[Fly]:
    for service in _services(fly):
        for name in ("checks", "tcp_checks", "http_checks"):
            yield from tables(service, name)


def _checks(fly: Fly) -> Iterator[Fly]:
    yield from fly.get("checks", {}).values()


def _grouped(fly: Fly) -> Iterator[Fly]:
    for name in (*GROUPED, "http_service"):
        yield from tables(fly, name)
    yield from _checks(fly)


def _durations(fly: Fly) -> Iterator[str | float]:
    yield fly.get("kill_timeout", 5)
    yield fly.get("deploy", {}).get("wait_timeout", "5m")
    for check in (*_service_checks(fly), *_checks(fly)):
        yield from _times(check)


def _times(check: Fly) -> list[str]:
    return [check[key] for key in ("interval", "timeout", "grace_period") if key in check]


def _sizes(fly: Fly) -> Iterator[str | int]:
    names = ("memory", "initial_size", "auto_extend_size_increment", "auto_extend_size_limit")
    for table in (*tables(fly, "vm"), *tables(fly, "mounts")):
        yield from (table[name] for name in names if name in table)


def _fails(read: Callable[[Any], Any], value: Any) -> bool:
    try:
        read(value)
    except ValueError:
        return True
    return False


def _sizes_gb(mount: Fly, *keys: str) -> Iterator[float]:
    for key in keys:
        if key in mount:
            yield mebibytes(mount[key]) / 1024


def _extends_badly(mount: Fly) -> bool:
    names = ("threshold", "increment", "limit")
    given = {name for name in names if f"auto_extend_size_{name}" in mount}
    if not given:
        return False
    return (
        given != set(names)
        or not 50 <= mount["auto_extend_size_threshold"] <= 99
        or any(not 1 <= size <= 100 for size in _sizes_gb(mount, "auto_extend_size_increment"))
        or any(not 1 <= size <= 500 for size in _sizes_gb(mount, "auto_extend_size_limit"))
    )


def _is_no_machine(vm: Fly) -> bool:
    preset = _PRESET.fullmatch(vm.get("size", "shared-cpu-1x"))
    if preset is None or int(preset[2]) not in _CPUS[preset[1]]:
        return True
    memory, cpus, shared = mebibytes(vm["memory"]), int(preset[2]), preset[1] == "shared-cpu"
    least, step, most = (256, 256, 2048) if shared else (2048, 2048, 8192)
    return not least * cpus <= memory <= most * cpus or memory % step != 0


def _cannot_sleep(fly: Fly) -> Iterator[Any]:
    for service in _services(fly):
        if service.get("auto_stop_machines") == "suspend":
            yield from (fly[key] for key in ("swap_size_mb",) if key in fly)
            for group in service["processes"]:
                machines = of_group(fly, "vm", group)
                yield from (each for each in machines if mebibytes(each["memory"]) > 2048)


def _sleep_alone(fly: Fly) -> Iterator[Any]:
    for service in _services(fly):
        stops = service.get("auto_stop_machines", "off") != "off"
        if stops != service.get("auto_start_machines", True):
            yield service


def _several_of_a_group(fly: Fly, name: str) -> Iterator[str]:
    yield from (group for group in fly["processes"] if len(of_group(fly, name, group)) > 1)


def _put(*path: str | int) -> Callable[[Any], Callable[[Fly], None]]:
    """Give what makes a change: the value at the end of a path."""

    def to(value: Any) -> Callable[[Fly], None]:
        def change(fly: Fly) -> None:
            table: Any = fly
            for key in path[:-1]:
                table = table[key]
            table[path[-1]] = value

        return change

    return to


RULES = (
    Rule(
        says="no table has a key that Fly does not know",
        source="flyctl, internal/appconfig/strict_validate.go, StrictValidate",
        faults=_unknown_keys,
        broken=_put("mounts", 0, "size")("10gb"),
    ),
    Rule(
        says="the strategy of deploying is one that there is",
        source=_VALIDATION + "validateDeploySection",
        faults=lambda fly: (
            each
            for each in [fly.get("deploy", {}).get("strategy", "rolling")]
            if each not in {"canary", "rolling", "immediate", "bluegreen"}
        ),
        broken=_put("deploy", "strategy")("blue-green"),
    ),
    Rule(
        says="neither canary nor bluegreen is used with volumes",
        source=_VALIDATION + "validateDeploySection; " + _CONFIGURATION + "deployment strategy",
        faults=lambda fly: (
            each
            for each in tables(fly, "mounts")
            if fly.get("deploy", {}).get("strategy") in {"canary", "bluegreen"}
        ),
        broken=_put("deploy", "strategy")("bluegreen"),
    ),
    Rule(
        says="a check beside the services has a type, and a port",
        source="flyctl, internal/appconfig/toplevelcheck.go, toMachineCheck; " + _CONFIGURATION,
        faults=lambda fly: (
            each
            for each in _checks(fly)
            if each.get("type") not in {"http", "tcp"} or "port" not in each
        ),
        broken=_put("checks", "ingest", "type")("https"),
    ),
    Rule(
        says="such a check comes every 2 seconds at most, and waits for 60 at most",
        source=_VALIDATION + "validateChecksSection",
        faults=lambda fly: (
            each
            for each in _checks(fly)
            if seconds(each.get("interval", "2s")) < 2 or seconds(each.get("timeout", "2s")) > 60
        ),
        broken=_put("checks", "ingest", "interval")("1s"),
    ),
    Rule(
        says="a service's checks have durations from a second to a minute",
        source=_VALIDATION + "validateSingleServiceCheckDuration",
        faults=lambda fly: (
            each
            for each in _service_checks(fly)
            if not all(1 <= seconds(time) <= 60 for time in _times(each))
        ),
        broken=_put("http_service", "checks", 0, "grace_period")("90s"),
    ),
    Rule(
        says="every duration is one for Go",
        source="fly-go, duration.go, ParseDuration",
        faults=lambda fly: (each for each in _durations(fly) if _fails(seconds, each)),
        broken=_put("checks", "ingest", "timeout")("2 seconds"),
    ),
    Rule(
        says="every size is one for Fly",
        source=_VALIDATION + "validateMounts; machines.go, computeToGuest",
        faults=lambda fly: (each for each in _sizes(fly) if _fails(mebibytes, each)),
        broken=_put("vm", 0, "memory")("2 gigabytes"),
    ),
    Rule(
        says="a table without processes, which would be of the first group alone, is not written",
        source=_GROUPS + "flattenGroupsMatch; for services validation.go, validateServicesSection",
        faults=lambda fly: (each for each in _grouped(fly) if not each.get("processes")),
        broken=lambda fly: fly["metrics"][1].pop("processes"),
    ),
    Rule(
        says="every group that a table names is there",
        source=_VALIDATION + "validateServicesSection, validateRestartPolicy",
        faults=lambda fly: (
            group
            for each in _grouped(fly)
            for group in each.get("processes", [])
            if group not in fly["processes"]
        ),
        broken=_put("http_service", "processes")(["web"]),
    ),
    Rule(
        says="the command of a group can be split into words",
        source=_VALIDATION + "validateProcessesSection",
        faults=lambda fly: (
            each for each in fly["processes"].values() if _fails(shlex.split, each)
        ),
        broken=_put("processes", "serve")("serve 'unclosed"),
    ),
    Rule(
        says="a group has one volume",
        source=_VALIDATION + "validateMounts",
        faults=lambda fly: _several_of_a_group(fly, "mounts"),
        broken=_put("mounts", 0, "processes")(["ingest", "serve"]),
    ),
    Rule(
        says="a group has one place of metrics: others are left out in silence",
        source=_MACHINES + "updateMachineConfig (c.Metrics[0])",
        faults=lambda fly: _several_of_a_group(fly, "metrics"),
        broken=_put("metrics", 0, "processes")(["ingest", "serve"]),
    ),
    Rule(
        says="a volume has a name and a folder, which is not the root",
        source=_CONFIGURATION + "source, destination",
        faults=lambda fly: (
            each
            for each in tables(fly, "mounts")
            if not re.fullmatch(r"[a-z0-9_]{1,30}", each.get("source", ""))
            or each.get("destination", "/") == "/"
        ),
        broken=_put("mounts", 0, "destination")("/"),
    ),
    Rule(
        says="a volume begins with 1 GB at least",
        source=_VALIDATION + "validateMounts",
        faults=lambda fly: (
            size
            for each in tables(fly, "mounts")
            for size in _sizes_gb(each, "initial_size")
            if size < 1
        ),
        broken=_put("mounts", 0, "initial_size")("512mb"),
    ),
    Rule(
        says="a volume that grows does so from 50 to 99 %, by 1 to 100 GB, to 500 GB at most",
        source=_VALIDATION + "validateMounts; " + _CONFIGURATION + "auto extend",
        faults=lambda fly: filter(_extends_badly, tables(fly, "mounts")),
        broken=lambda fly: fly["mounts"][0].pop("auto_extend_size_limit"),
    ),
    Rule(
        says="the policy of restarts is one that there is",
        source=_MACHINES + "parseRestartPolicy",
        faults=lambda fly: (
            each
            for each in tables(fly, "restart")
            if each.get("policy") not in {"always", "on-failure", "never"}
        ),
        broken=_put("restart", 0, "policy")("no"),
    ),
    Rule(
        says="a machine is of a size that there is, with as much memory as it may have",
        source="fly-go, machine_types.go, MachinePresets; docs, machines/guides-examples/"
        "machine-sizing.html.markerb",
        faults=lambda fly: filter(_is_no_machine, tables(fly, "vm")),
        broken=_put("vm", 1, "memory")("8gb"),
    ),
    Rule(
        says="the signal that stops is one that Fly sends",
        source=_CONFIGURATION + "kill_signal",
        faults=lambda fly: (
            each for each in [fly.get("kill_signal", "SIGINT")] if each not in _SIGNALS
        ),
        broken=_put("kill_signal")("TERM"),
    ),
    Rule(
        says="a stop may take 300 seconds at most",
        source=_CONFIGURATION + "kill_timeout",
        faults=lambda fly: (each for each in [fly.get("kill_timeout", 5)] if seconds(each) > 300),
        broken=_put("kill_timeout")("6m"),
    ),
    Rule(
        says="a variable is text, and its name does not begin with FLY_",
        source=_CONFIGURATION + "the env variables section",
        faults=lambda fly: (
            name
            for name, value in fly.get("env", {}).items()
            if name.startswith("FLY_") or not isinstance(value, str)
        ),
        broken=_put("env", "FLY_REGION")("ams"),
    ),
    Rule(
        says="what is suspended has 2 GB of memory at most, and no swap",
        source="docs, reference/suspend-resume.html.md, Requirements",
        faults=_cannot_sleep,
        broken=_put("vm", 1, "memory")("4gb"),
    ),
    Rule(
        says="what is stopped by itself is started by itself, and the other way round",
        source="docs, launch/autostop-autostart.html.markerb",
        faults=_sleep_alone,
        broken=_put("http_service", "auto_start_machines")(False),
    ),
    Rule(
        says="the soft limit of requests is below the hard one",
        source=_CONFIGURATION + "http_service.concurrency",
        faults=lambda fly: (
            each
            for service in _services(fly)
            for each in tables(service, "concurrency")
            if not 0 < each["soft_limit"] < each["hard_limit"]
        ),
        broken=_put("http_service", "concurrency", "soft_limit")(300),
    ),
)
