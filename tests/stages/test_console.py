"""What a stage says, whatever it has to name."""

import pytest

from pipeline.stages.console import say, say_table


def test_names_that_would_steer_a_terminal_come_out_as_text(capsys: pytest.CaptureFixture[str]):
    say("audit", "two\nlines, \x1b[31mred\x1b[0m, Straße 日本")
    say_table("audit", [("a\nb", "c", "d"), ("e", "f\x07", "g")])

    assert capsys.readouterr().out.splitlines() == [
        r"audit       two\nlines, \x1b[31mred\x1b[0m, Straße 日本",
        r"audit       a\nb  c      d",
        r"audit       e     f\x07  g",
    ]
