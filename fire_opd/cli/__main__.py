"""`python -m fire_opd.cli`, where `fire-opd` may not be on the path."""

from fire_opd.cli import main

main()
