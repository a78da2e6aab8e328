"""Has ComfyUI load the packs before or after ours, as TEST_LOAD_ORDER says: it goes by os.listdir."""

import os

listdir, OURS = os.listdir, "comfyui-stateless"


def ordered(*args):
    names = listdir(*args)
    if OURS in names:
        ours_first = os.environ["TEST_LOAD_ORDER"] == "after"
        names.sort(key=lambda name: ((name == OURS) != ours_first, name))
    return names


os.listdir = ordered
