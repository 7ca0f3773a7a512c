"""What production on one host must keep to, read from the files that start it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from workers import metrics, schedule
from workers.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"init", "volumes-init"}
LASTING = sorted(set(SERVICES) - ONE_SHOT)


def test_the_file_is_valid_by_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_of_the_system_is_there() -> None:
    expected = {"redis", "minio", "serving", "training", "generation", "beat", "prometheus", "grafana"}
    assert set(LASTING) == expected


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_service_is_watched_restarted_and_not_root(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert service["user"].split(":")[0] != "0"
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_ports_are_on_the_loopback_and_images_have_a_version(name: str) -> None:
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "build" in service or re.search(r":.*\d", service["image"])


def test_secrets_come_from_outside_and_have_no_default() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|ACCESS_KEY|AUTH|ROOT_USER|REDIS_URL", name):
                # A secret for a part that is off without it may be left out; then it is empty.
                assert re.search(r"\$\{\w+:(\?|-\}$)", str(value)), name


def test_every_setting_that_is_given_exists() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for service in SERVICES.values():
        given = {name for name in service.get("environment", {}) if name.startswith(PREFIX)}
        assert given <= known
    in_image = set(re.findall(r"(AIGC_\w+)=", (ROOT / "infra/docker/worker.Dockerfile").read_text()))
    assert in_image <= known


def test_the_model_server_sends_raw_bytes_polls_the_published_list_and_gets_signals() -> None:
    serving = SERVICES["serving"]
    major, minor = (int(part) for part in serving["image"].split(":")[1].split(".")[:2])
    assert (major, minor) >= (2, 19), "--enable_serialization_as_tensor_content is of 2.19"
    assert serving["entrypoint"] == ["tensorflow_model_server"]
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in serving["command"])
    assert flags["enable_serialization_as_tensor_content"] == "true"
    assert flags["model_config_file"] == "/models/models.config"
    assert float(flags["model_config_file_poll_wait_seconds"]) > 0
    assert "rest_api_port" in flags, "the Prometheus page lives there"


def test_the_health_check_of_the_model_server_is_run_by_a_shell_that_knows_dev_tcp() -> None:
    command, shell, *_ = SERVICES["serving"]["healthcheck"]["test"]
    assert (command, shell) == ("CMD", "bash")


@pytest.mark.parametrize("name", ["redis", "minio", "init", "generation", "training", "beat"])
def test_who_writes_to_a_volume_waits_until_it_is_theirs(name: str) -> None:
    given = {volume.split(":")[0] for volume in SERVICES["volumes-init"]["volumes"]}
    assert {volume.split(":")[0] for volume in SERVICES[name]["volumes"] if not volume.startswith(".")} <= given
    waits_for, seen = [name], {name}
    while waits_for:
        following = SERVICES[waits_for.pop()].get("depends_on", {})
        waits_for += [other for other in following if other not in seen]
        seen |= set(following)
    assert "volumes-init" in seen


def mounted(name: str) -> list[str]:
    """The folders of a service that are volumes."""
    return [volume.split(":")[1] for volume in SERVICES[name]["volumes"]]


@pytest.mark.parametrize("name", ["generation", "training"])
def test_what_waits_for_its_upload_waits_on_a_disk(name: str) -> None:
    folder = SERVICES[name]["environment"]["TMPDIR"]
    assert folder in mounted(name)
    assert folder not in SERVICES[name]["tmpfs"]


def test_beat_remembers_over_a_restart_what_it_sent() -> None:
    assert SERVICES["beat"]["environment"]["AIGC_HOME"] in mounted("beat")


def test_no_secret_is_on_a_command_line() -> None:
    for service in SERVICES.values():
        assert "${AIGC_" not in json.dumps([service.get("command"), service.get("entrypoint"), service.get("healthcheck")])


@pytest.mark.parametrize("name", ["generation", "training", "beat"])
def test_the_settings_that_the_readme_names_reach_the_processes(name: str) -> None:
    named = set(re.findall(r"`(AIGC_\w+)`", (ROOT / "README.md").read_text()))
    assert {"AIGC_RETRAIN_EVERY_HOURS", "AIGC_RETRAIN_DATASET", "AIGC_RETRAIN_MODEL"} <= named
    assert named - {"AIGC_CODE_REVISION", "AIGC_FAILPOINTS"} <= set(SERVICES[name]["environment"])


def test_an_image_knows_the_revision_of_its_code() -> None:
    builds = [service["build"] for service in SERVICES.values() if "build" in service]
    assert {build["args"]["REVISION"] for build in builds} == {"${AIGC_CODE_REVISION:-unknown}"}
    dockerfile = (ROOT / "infra/docker/worker.Dockerfile").read_text()
    assert "ARG REVISION" in dockerfile
    assert "AIGC_CODE_REVISION=$REVISION" in dockerfile


def test_only_the_training_image_has_tensorflow() -> None:
    extras = {name: service["build"]["args"]["ROLE"] for name, service in SERVICES.items() if "build" in service}
    assert extras["training"] == "training"
    assert all("training" not in extra for name, extra in extras.items() if name != "training")
    import tomllib

    roles = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for role in ("producer", "generation"):
        assert not [requirement for requirement in roles[role] if re.match("tensorflow|keras|aigc", requirement)]


def test_redis_keeps_what_it_was_told_and_evicts_nothing() -> None:
    lines = (ROOT / "infra/redis/redis.conf").read_text().splitlines()
    assert {"maxmemory-policy noeviction", "appendonly yes"} <= set(lines)


def test_every_metric_of_the_dashboard_and_the_alerts_is_exported() -> None:
    exported = {sample for family in metrics.REGISTRY.collect() for sample in (family.name, f"{family.name}_total")}
    exported |= {f"{family.name}_bucket" for family in metrics.REGISTRY.collect()}
    exported |= {family.name for family in schedule.QueueSampler().collect()}
    texts = (ROOT / "infra/prometheus/alerts.yml").read_text() + (ROOT / "infra/grafana/dashboards/aigc.json").read_text()
    expressions = [
        panel["targets"][0]["expr"]
        for panel in json.loads((ROOT / "infra/grafana/dashboards/aigc.json").read_text())["panels"]
    ]
    assert len(expressions) >= 10
    used = set(re.findall(r"\baigc_[a-z0-9_]+", texts))
    assert used - exported == set()


def test_a_training_that_waits_behind_another_is_not_judged_as_a_stalled_queue() -> None:
    (group,) = yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text())["groups"]
    expressions = {rule["alert"]: rule["expr"] for rule in group["rules"]}
    assert 'queue!="training"' in expressions["AigcQueueStalled"]
    assert 'queue="training"' in expressions["AigcTrainingStalled"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Prometheus, is not installed")
@pytest.mark.parametrize(
    "command",
    [["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]],
    ids=" ".join,
)
def test_prometheus_takes_the_rules_and_pages_when_it_should(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=ROOT / "infra/prometheus", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
