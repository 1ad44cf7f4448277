from __future__ import annotations

import subprocess
import sys


def test_the_registry_needs_no_model_library() -> None:
    """A restart must be quick, so the actor's process imports neither torch nor transformers."""
    program = (
        "import sys, expunge.registry.actor, expunge.registry.blobs;"
        "print([name for name in ('torch', 'transformers', 'alembic') if name in sys.modules])"
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "[]"
