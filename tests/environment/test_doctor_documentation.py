"""docs/doctor.md names every finding with the severities that it has, and no other."""

from __future__ import annotations

from doctor_documentation import documented, written


def test_every_finding_is_documented_with_its_severity():
    """The names are for programs and the severities decide on exit statuses."""
    assert len({name for name, _ in written()}) > 50
    assert sorted(written() - documented()) == []


def test_the_documentation_tells_of_nothing_else():
    assert sorted(documented() - written()) == []
