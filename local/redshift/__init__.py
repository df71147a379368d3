"""A Redshift on this machine: an embedded PostgreSQL that a proxy makes look like one. See docs/local-redshift.md."""

from __future__ import annotations

from .faults import Fault
from .server import RedshiftServer

__all__ = ["Fault", "RedshiftServer"]
