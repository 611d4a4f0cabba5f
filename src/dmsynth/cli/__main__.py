"""``python -m dmsynth.cli``: the command line without its script."""

from dmsynth.cli import main

main()
