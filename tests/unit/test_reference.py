"""docs/reference-*.md say what the code takes."""

from infra.reference import DOCS, cli_page, spec_page


def test_every_field_of_a_spec_is_told_as_it_is() -> None:
    page = spec_page()
    assert page == (DOCS / "reference-spec.md").read_text()
    assert "|  |" not in page  # each has a description


def test_every_command_is_told_as_it_is() -> None:
    assert cli_page() == (DOCS / "reference-cli.md").read_text()
