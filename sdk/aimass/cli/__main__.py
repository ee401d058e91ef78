"""python -m aimass.cli"""

from aimass.cli.main import main

main()
