"""`python -m timevlm.cli`, where the script is not on the path."""

from timevlm.cli import main

main()
