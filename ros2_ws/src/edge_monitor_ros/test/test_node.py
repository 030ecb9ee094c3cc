"""The monitor's node, started as a robot starts it, against real publishers. Needs a ROS 2 that is sourced."""

from __future__ import annotations

import signal
from collections.abc import Callable

from builtin_interfaces.msg import Time
from edge_monitor_msgs.msg import Decision, Handover
from edge_monitor_msgs.srv import AcknowledgeHandover, GoNoGo, ReloadEnvelope, ResetLatch
from lifecycle_msgs.msg import Transition as Change
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64
from world import ENVELOPE, WITH_PEOPLE, World


def test_a_life_of_the_node(make: Callable[..., World]) -> None:
    """Configured, activated, GO, NO_GO with its reason, another envelope, deactivated, cleaned up, and all of it provable."""
    world = make()
    process = world.monitor()
    assert world.change(Change.TRANSITION_CONFIGURE)
    assert not world.decisions  # inactive: it reads and says nothing
    assert world.change(Change.TRANSITION_ACTIVATE)
    world.decides("")
    answer = world.call(GoNoGo, "go", GoNoGo.Request(gate="drive"))
    assert answer.ok and answer.decision.decision == Decision.GO and answer.decision.valid_for.sec == 5
    assert "no gate" in world.call(GoNoGo, "go", GoNoGo.Request(gate="fly")).error
    world.up = 13.0
    world.decides("upright FAIL")
    (world.folder / "node.yaml").write_text(ENVELOPE.replace("version: 1", "version: 2").replace("max: 12", "max: 14"))
    answer = world.call(ReloadEnvelope, "reload_envelope", ReloadEnvelope.Request())
    assert answer.ok, answer.error
    world.decides("")
    (world.folder / "node.yaml").write_text("edge_monitor: 1\n")
    answer = world.call(ReloadEnvelope, "reload_envelope", ReloadEnvelope.Request())
    assert not answer.ok and "envelope" in answer.error
    echo = world.start("ros2", "topic", "echo", "--no-daemon", "--once", "/diagnostics")
    code, text = world.ended(echo)
    assert code == 0, text
    assert all(f"edge_monitor: {check}" in text for check in ("upright", "sees", "gate drive", "journal")), text
    assert world.change(Change.TRANSITION_DEACTIVATE)
    world.until(lambda: world.decisions[-1].decision == Decision.NO_GO)
    assert not world.call(GoNoGo, "go", GoNoGo.Request(gate="drive")).ok
    assert world.change(Change.TRANSITION_CLEANUP)
    world.tell(process, signal.SIGTERM)
    assert world.ended(process)[0] == 0
    report = world.verified()
    assert report.ok and [run.ended for run in report.runs] == [True]
    assert {"check.fail", "gate.go", "gate.no_go", "envelope.activated"} <= {event.type for event in world.events}


def test_each_silence_has_its_name(make: Callable[..., World]) -> None:
    """Wrong type, nobody, QoS that does not fit, a publisher that was late, one that left and one that was killed."""
    world = make()
    far = world.start("ros2", "topic", "pub", "-r", "10", "/far", "std_msgs/msg/Float64", "{data: 0.5}")
    world.monitor(autostart="true")
    world.decides("")  # best-effort Imu, reliable Odometry and images
    world.says("typed", "UNKNOWN: type_mismatch")
    world.says("there", "UNKNOWN: no_publisher")
    world.says("sure", "UNKNOWN: qos")
    world.says("known", "PASS")  # said before the monitor came
    world.says("linked", "PASS")
    late = world.node.create_publisher(Float64, "/absent", 10)
    timer = world.node.create_timer(0.05, lambda: late.publish(Float64(data=0.5)))
    world.says("there", "PASS")
    world.tell(far, signal.SIGKILL)
    world.says("linked", "UNKNOWN: no_publisher")  # once its lease of discovery is over
    timer.cancel()
    world.node.destroy_publisher(late)
    world.says("there", "UNKNOWN: no_publisher")
    world.timers[2].cancel()
    world.node.destroy_publisher(world.image)
    world.decides("sees UNKNOWN(no_publisher)")
    world.until(lambda: "input.lost" in {event.type for event in world.events})


def test_the_end_of_the_process_is_told(make: Callable[..., World]) -> None:
    """SIGINT while active: the GO is revoked in the graph, the journal has its end mark, and the exit code is 0."""
    world = make()
    process = world.monitor(autostart="true")
    world.decides("")
    world.tell(process, signal.SIGINT)
    world.until(lambda: world.decisions[-1].decision == Decision.NO_GO)
    code, text = world.ended(process)
    assert code == 0, text
    assert [run.ended for run in world.verified().runs] == [True]


def test_a_configuration_that_will_not_do(make: Callable[..., World]) -> None:
    """A parameter that is missing, or an envelope that nobody approved, leaves the node unconfigured with one line."""
    world = make()
    process = world.monitor(unapproved="false")
    assert not world.change(Change.TRANSITION_CONFIGURE)
    world.tell(process, signal.SIGTERM)
    code, text = world.ended(process)
    assert code == 0 and "approv" in text, text


def test_people_answer_by_services(make: Callable[..., World]) -> None:
    """A handover that is demanded is told and accepted, a latch is reset once what set it has cleared; each with its person."""
    world = make(envelope=WITH_PEOPLE)
    demands: list[Handover] = []
    world.node.create_subscription(Handover, f"{world.name}/handovers", demands.append, 100)
    world.mode = 1.0
    process = world.monitor(autostart="true")
    world.decides("")
    world.up = 13.0
    world.until(lambda: [one.type for one in demands] == ["handover.requested"])
    unlatch = ResetLatch.Request(check="upright", person="ada", reason="it stands again")
    refused = world.call(ResetLatch, "reset_latch", unlatch)
    assert not refused.ok and "has not cleared" in refused.error
    answer = AcknowledgeHandover.Request(id="another", accept=True, person="ada")
    assert not world.call(AcknowledgeHandover, "acknowledge", answer).ok
    answer.id = demands[0].id
    assert world.call(AcknowledgeHandover, "acknowledge", answer).ok
    world.until(lambda: demands[-1].type == "handover.accepted" and demands[-1].person == "ada")
    world.up = 9.81
    world.says("upright", "FAIL: 9.81")
    found = world.call(ResetLatch, "reset_latch", unlatch)
    assert found.ok, found.error
    world.decides("")
    world.tell(process, signal.SIGTERM)
    assert world.ended(process)[0] == 0
    assert world.verified().ok and "latch.reset" in {event.type for event in world.events}


def test_time_of_a_simulator(make: Callable[..., World]) -> None:
    """With ``use_sim_time`` latencies and what is published are on the simulator's time, also after that has jumped back."""
    world = make()
    clock = world.node.create_publisher(Clock, "/clock", 10)
    now = 5000.0

    def tick() -> None:
        nonlocal now
        now += 0.01
        clock.publish(Clock(clock=world.stamp()))

    world.stamp = lambda: Time(sec=int(now), nanosec=int(now % 1 * 1e9))
    world.node.create_timer(0.01, tick)
    world.monitor(autostart="true", use_sim_time="true")
    world.decides("")
    world.until(lambda: 5000 < world.diagnosed < now + 1)
    world.says("recent", "PASS")
    now = 2000.0
    world.until(lambda: 2000 < world.diagnosed < now + 1)
    world.decides("")
    world.says("recent", "PASS")
