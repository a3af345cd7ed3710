"""What `infra/` says to Docker and Kubernetes is what they take, and what a container runs outlives it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
BIN = Path(sys.executable).parent
MANIFESTS = sorted(set((INFRA / "kubernetes").glob("*.yaml")) - {INFRA / "kubernetes" / "kustomization.yaml"})
KUSTOMIZATIONS = sorted((INFRA / "kubernetes").rglob("kustomization.yaml"))


def documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text()))


def images() -> list[str]:
    """Of every service and container, and what the Dockerfile begins with."""
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"].values()
    pods = [d["spec"]["template"]["spec"] for file in MANIFESTS for d in documents(file) if d["kind"] == "StatefulSet"]
    containers = [c for pod in pods for kind in ("initContainers", "containers") for c in pod.get(kind, [])]
    base = re.findall(r"^FROM (\S+)", (INFRA / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    return [*(each["image"] for each in (*services, *containers)), *base]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_have_the_form_of_the_specification(name: str) -> None:
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", INFRA / name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.stem)
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_manifests_have_the_form_of_kubernetes(file: Path, version: str) -> None:
    for document in documents(file):
        kubernetes_validate.validate(document, version, strict=True)


def test_every_manifest_is_applied() -> None:
    names = {name for file in KUSTOMIZATIONS for name in yaml.safe_load(file.read_text())["resources"]}
    assert names == {*(file.name for file in MANIFESTS), ".."}


def test_an_image_holds_nothing_that_git_does_not() -> None:
    """Secrets above all: the image is made of the checkout as it lies there."""
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split()}
    left_out = {line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    assert {"infra/.env", "infra/kubernetes/secrets.env"} <= ignored
    assert ignored <= left_out


def test_a_connection_that_is_let_in_is_let_out() -> None:
    """All is refused but what a policy names; both ends must name it."""
    policies = {d["metadata"]["name"]: d["spec"] for d in documents(INFRA / "kubernetes" / "network.yaml")}
    assert policies["nothing-but-names"]["podSelector"] == {}
    assert policies["nothing-but-names"]["policyTypes"] == ["Ingress", "Egress"]

    def ends(way: str, whom: str) -> set[tuple[str, str, int]]:
        found = set()
        for name, spec in policies.items():
            for rule in spec.get(way, []):
                apps = [
                    peer["podSelector"]["matchLabels"]["app"] for peer in rule.get(whom, []) if "podSelector" in peer
                ]
                found |= {(name, app, port["port"]) for app in apps for port in rule["ports"]}
        return found

    incoming = {(app, name, port) for name, app, port in ends("ingress", "from")}
    assert (
        incoming
        == ends("egress", "to")
        == {("server", "database", 5432), ("runner", "server", 4200), ("runner", "store", 8333)}
    )


def test_the_dockerfile_has_no_known_fault() -> None:
    done = subprocess.run([BIN / "hadolint", INFRA / "docker" / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_images_of_others_are_of_one_version() -> None:
    others = [image for image in images() if not image.startswith("fire-opd")]
    assert len(others) >= 5
    assert all(re.search(r":\d+\.\d+", image) for image in others), others


def test_no_container_is_root_or_may_become_it() -> None:
    users = re.findall(r"^USER (\d+)", (INFRA / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    assert users
    assert users[-1] != "0"
    for file in MANIFESTS:
        for pod in [d["spec"]["template"]["spec"] for d in documents(file) if d["kind"] == "StatefulSet"]:
            assert pod["securityContext"]["runAsNonRoot"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                assert container["securityContext"]["allowPrivilegeEscalation"] is False
                assert "memory" in container["resources"]["limits"]


def test_secrets_are_named_in_the_example_and_nowhere_written() -> None:
    example = dict(line.split("=") for line in (INFRA / "env.example").read_text().splitlines() if "=" in line)
    compose = (INFRA / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+):\?", compose)) == set(example)
    keys = set(re.findall(r"name: secrets, key: (\w+)", "".join(file.read_text() for file in MANIFESTS)))
    assert keys == set(example)
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/infra/.env", "/infra/kubernetes/secrets.env"} <= set(ignored)


def test_what_a_container_keeps_outlives_it_and_a_newer_image(tmp_path: Path) -> None:
    """The checkout in the volume follows the image; branches of runs, which are only there, stay."""
    image, volume = tmp_path / "image", tmp_path / "volume"
    volume.mkdir()

    def git(where: Path, *arguments: str) -> str:
        command = ["git", "-c", "user.name=u", "-c", "user.email=u@x", *arguments]
        return subprocess.check_output(command, cwd=where, text=True).strip()

    def contain(*command: str) -> str:
        env = {**os.environ, "FIRE_OPD_IMAGE": str(image), "FIRE_OPD_VOLUME": str(volume)}
        return subprocess.check_output([INFRA / "docker" / "start.sh", *command], env=env, text=True).strip()

    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{ROOT}", str(image))
    (image / ".venv").symlink_to(BIN.parent)
    assert contain("pwd") == str(volume / "checkout")
    shown = contain("python", "-c", "from fire_opd.storage.places import places; print(places()['FIRE_OPD_RUNS'])")
    assert shown == str(volume / "checkout" / "runs")
    contain("git", "branch", "runs/mine")
    git(image, "commit", "--quiet", "--allow-empty", "-m", "newer")
    assert contain("git", "rev-parse", "HEAD") == git(image, "rev-parse", "HEAD")
    assert contain("git", "branch", "--list", "runs/mine")
    git(volume / "checkout", "commit", "--quiet", "--allow-empty", "-m", "of one's own")
    git(image, "commit", "--quiet", "--allow-empty", "-m", "newer still")
    assert contain("git", "log", "-1", "--format=%s") == "of one's own"
