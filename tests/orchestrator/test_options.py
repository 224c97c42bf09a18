"""How verbs end after Ctrl-C: one that worked says that it carries on, one that only looked does not."""

import pytest

from orchestrator import cli
from orchestrator.options import INTERRUPTED, JobGoesOn


@pytest.mark.parametrize(("end", "told"), [(SystemExit(INTERRUPTED), True), (JobGoesOn(INTERRUPTED), False)])
def test_only_what_was_stopped_says_so(
    end: SystemExit, told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(**_: object) -> None:
        raise end

    monkeypatch.setattr(cli, "app", ended)
    with pytest.raises(SystemExit) as seen:
        cli.main([])
    assert seen.value.code == INTERRUPTED
    assert ("the same command carries on" in capsys.readouterr().err) is told
