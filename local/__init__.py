"""
The local stack: real servers on loopback that the unchanged product talks to.

Nothing here is part of the product, and nothing in ``plugins/`` knows that it exists.
"""

import sys
from pathlib import Path

# As Airflow does with its plugins folder, so that ``python -m local.stack`` needs no PYTHONPATH.
_PLUGINS = str(Path(__file__).resolve().parents[1] / "plugins")
if _PLUGINS not in sys.path:
    sys.path.append(_PLUGINS)
