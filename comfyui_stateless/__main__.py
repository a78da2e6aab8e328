"""``python -m comfyui_stateless`` is the console script."""

import sys

from .launcher.cli import main

sys.exit(main())
