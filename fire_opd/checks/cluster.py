"""Can the engines live on the Ray cluster that the spec names? Asked without Ray, in a second."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fire_opd.errors import SpecError
from fire_opd.spec import RunSpec

# The call by which Ray's own tools ask whether a head is alive; its answer holds the version of Ray.
_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"


def check_cluster(spec: RunSpec) -> None:
    """Refuse a cluster that cannot be used: the library, the head, its version, its authentication, our token.

    Room for the engines and the run's folder on the nodes are checked at the start, by the nodes.

    Raises:
        SpecError: naming `placement.ray` and what to do.
    """
    ray = spec.placement.ray
    if ray.address is None:
        return
    try:
        here = version("ray")
    except PackageNotFoundError:
        raise SpecError(
            "placement.ray names a cluster, and ray is not installed here: pip install 'fire-opd[ray]', or leave the "
            "address empty"
        ) from None
    field, within = f"placement.ray.address = {ray.address}", min(ray.deadline, 10)
    outcome, said = _ask(ray.address, "", within)
    if outcome == "OK":
        raise SpecError(
            f"{field}: this cluster answers without a token, so whoever reaches it can run code on its nodes; start "
            "its nodes with RAY_AUTH_MODE=token and a common RAY_AUTH_TOKEN"
        )
    if outcome == "UNAUTHENTICATED":
        outcome, said = _ask(ray.address, _token(), within)
    if outcome == "UNAUTHENTICATED":
        raise SpecError(f"{field}: the cluster has another token than ours; give its token in RAY_AUTH_TOKEN")
    if outcome != "OK":
        raise SpecError(f"{field}: no Ray cluster answers there ({said}); start one with `ray start --head`")
    if here not in said:
        raise SpecError(f"{field}: the cluster has another version of Ray than {here}, which is installed here")


def _ask(address: str, token: str, seconds: float) -> tuple[str, str]:
    """What became of the call, as gRPC names it, and the raw answer, or why there is none."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        try:
            sent = [("authorization", f"Bearer {token}")] if token else []
            answer: bytes = channel.unary_unary(_ALIVE)(b"", timeout=seconds, metadata=sent)
            return "OK", answer.decode(errors="replace")
        except grpc.RpcError as error:
            return error.code().name, error.details()


def _token() -> str:
    """The token where Ray takes it from, in its order."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not file.is_file() or not (token := file.read_text().strip()):
        raise SpecError(
            f"placement.ray: no token for the cluster in RAY_AUTH_TOKEN or {file}; give the one its nodes have"
        )
    return token
