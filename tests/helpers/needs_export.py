"""Import this first in a module of tests that write bundles: without PyTorch they are skipped."""

import pytest

pytest.importorskip("torch", reason="needs the extra 'export'")
