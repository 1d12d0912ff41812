"""The seed decides everything, and the ledger tells a lost write from one in doubt."""

from kubecosm.chaos.ledger import Ledger
from kubecosm.chaos.plan import plan_faults

COMPONENTS = ("apiserver", "scheduler", "controller", "kubelet", "proxy")


def test_one_seed_gives_one_plan() -> None:
    first, again, other = (plan_faults(seed, COMPONENTS, count=30, gap_seconds=1) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_every_component_is_hit_before_one_is_hit_twice() -> None:
    faults = plan_faults(1, COMPONENTS, count=25, gap_seconds=1)
    for start in range(0, 25, 5):
        assert {f.component for f in faults[start : start + 5]} == set(COMPONENTS)


def test_faults_come_in_order_and_pauses_end() -> None:
    faults = plan_faults(3, COMPONENTS, count=100, gap_seconds=0.5)
    assert [f.at_seconds for f in faults] == sorted(f.at_seconds for f in faults)
    assert {f.action for f in faults} == {"kill", "pause"}
    assert all((f.lasts_seconds > 0) == (f.action == "pause") for f in faults)


def ledger_after(*steps: tuple[str, str, str | None]) -> Ledger:
    ledger = Ledger()
    for step, name, value in steps:
        if step in ("confirm", "reject", "lose"):
            ledger.begin(name, value)
        if step == "confirm":
            ledger.confirm(name, value)
        elif step == "reject":
            ledger.reject(name, value)
        elif step == "lose":
            ledger.lose()
    return ledger


def test_an_acknowledged_write_that_is_missing_is_a_violation() -> None:
    ledger = ledger_after(("confirm", "a", "1"))
    assert ledger.judge({"a": "1"}) == []
    assert len(ledger.judge({})) == 1
    assert len(ledger.judge({"a": "0"})) == 1


def test_a_write_without_an_answer_may_have_happened_or_not() -> None:
    ledger = ledger_after(("confirm", "a", "1"), ("lose", "a", "2"))
    assert ledger.judge({"a": "1"}) == []
    assert ledger.judge({"a": "2"}) == []
    assert len(ledger.judge({"a": "3"})) == 1


def test_an_acknowledged_delete_must_stay_deleted() -> None:
    ledger = ledger_after(("confirm", "a", "1"), ("confirm", "a", None))
    assert ledger.judge({}) == []
    assert len(ledger.judge({"a": "1"})) == 1


def test_a_rejected_write_must_not_appear() -> None:
    assert len(ledger_after(("reject", "a", "1")).judge({"a": "1"})) == 1


def test_objects_from_nowhere_are_a_violation() -> None:
    assert len(Ledger().judge({"ghost": "1"})) == 1
