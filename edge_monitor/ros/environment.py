"""What a ROS 2 process is told by its environment: its domain, and how far it looks for others."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import UsageError

LARGEST_DOMAIN = 232


def domain(text: str, environment: Mapping[str, str]) -> int:
    """The number of a domain as a person gives it; where they give none, ``ROS_DOMAIN_ID``, else 0. Raises ``UsageError``."""
    name = "--source dds:"
    if not text:
        text, name = environment.get("ROS_DOMAIN_ID", "") or "0", "ROS_DOMAIN_ID="
    if not text.isascii() or not text.isdigit() or int(text) > LARGEST_DOMAIN:
        raise UsageError(f"{name}{text}: a domain is a number from 0 to {LARGEST_DOMAIN}, such as --source dds:0")
    return int(text)


def discovery(environment: Mapping[str, str]) -> str:
    """Cyclone's configuration for ``ROS_AUTOMATIC_DISCOVERY_RANGE``, ``ROS_STATIC_PEERS`` and ``ROS_LOCALHOST_ONLY``, as
    ROS 2's own layer over Cyclone makes it; empty where they say nothing special. Raises ``UsageError``."""
    local_only = environment.get("ROS_LOCALHOST_ONLY", "") == "1"
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "") or ("LOCALHOST" if local_only else "SUBNET")
    peers = [peer for peer in environment.get("ROS_STATIC_PEERS", "").split(";") if peer]
    if reach not in ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT"):
        raise UsageError(f"ROS_AUTOMATIC_DISCOVERY_RANGE={reach}: use SUBNET, LOCALHOST, OFF or SYSTEM_DEFAULT")
    if reach == "OFF":
        raise UsageError("ROS_AUTOMATIC_DISCOVERY_RANGE=OFF: nothing could be found; use SUBNET or LOCALHOST")
    if any(
        not set(peer) <= set("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.:-_%") for peer in peers
    ):
        raise UsageError("ROS_STATIC_PEERS: expected addresses separated by `;`")
    if reach == "SYSTEM_DEFAULT" or (reach == "SUBNET" and not peers):
        return ""
    if reach == "LOCALHOST":
        peers = ["localhost", *peers]
    general = "<General><AllowMulticast>false</AllowMulticast></General>" if reach == "LOCALHOST" else ""
    listed = "".join(f'<Peer address="{peer}"/>' for peer in peers)
    return (
        f"<CycloneDDS><Domain>{general}<Discovery><ParticipantIndex>auto</ParticipantIndex>"
        f"<MaxAutoParticipantIndex>32</MaxAutoParticipantIndex><Peers>{listed}</Peers></Discovery></Domain></CycloneDDS>"
    )
