"""A node that does to its process what no node should do; each act is one that packs have done."""

import asyncio
import contextlib
import ctypes
import gc
import io
import json
import locale
import logging
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import warnings
from pathlib import Path

import folder_paths
import nodes
import numpy as np
import torch
from PIL import Image
from server import PromptServer

from .leavings import Exits, Expands, Leaves

VICTIM = "/etc/passwd"
HUGE = 20 * 2**20


class Unspeakable(Exception):
    """Cannot say what it is."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def output(name=""):
    return Path(folder_paths.get_output_directory(), name)


def reported(*files):
    return {"images": list(files)}


def file(name, subfolder="", kind="output"):
    return {"filename": name, "subfolder": subfolder, "type": kind}


def raises(error):
    raise error


def forks():
    child = os.fork()
    if not child:
        time.sleep(2)
        os._exit(0)
    threading.Thread(target=os.waitpid, args=(child, 0), daemon=True).start()


def changes_folder():
    os.chdir(tempfile.mkdtemp())
    Path.cwd().rmdir()


def takes_stdout():
    class Broken:
        def write(self, *_):
            raise ValueError("I/O operation on closed file")

        flush = isatty = fileno = write

    sys.stdout = sys.stderr = Broken()


def loses_stdout():
    sys.stdout = sys.stderr = None


def cycle():
    found = {"text": []}
    found["text"].append(found)
    return found


def deep():
    found = []
    for _ in range(100_000):
        found = [found]
    return {"text": found}


def holds_the_lock():
    re.match(r"(a+)+$", "a" * 27 + "b")


def numbers():
    np.seterr(all="raise")
    torch.set_default_dtype(torch.float64)
    torch.set_printoptions(precision=1)


def impatient():
    socket.setdefaulttimeout(0.0001)


def strict():
    warnings.simplefilter("error")
    gc.disable()


def loses_temp():
    tempfile.tempdir = "/nonexistent"


def proxies():
    os.environ.update(HTTP_PROXY="http://127.0.0.1:1", http_proxy="http://127.0.0.1:1", HOME="/x")


def has_no_stack():
    sys.setrecursionlimit(60)


def makes_unreadable():
    os.umask(0o777)


def silences():
    logging.disable(logging.CRITICAL)


def keeps_the_lock():
    sys.setswitchinterval(10)


def has_no_loop():
    class NoLoop(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self):
            raise RuntimeError("no loop")

        get_event_loop = new_event_loop

    asyncio.set_event_loop_policy(NoLoop())


def closes_stdout():
    sys.stdout = io.StringIO()
    sys.stdout.close()


def watches_threads():
    threading.settrace(raises)
    threading.setprofile(raises)
    threading.stack_size(64 * 1024)


def has_no_hooks():
    sys.excepthook = threading.excepthook = None


def has_few_files():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, most))


def keys():
    return {(1, 2): ["a"], 3.5: ["b"], True: ["c"], b"x": ["d"], "images": [file("x.png")]}


def odd_entries():
    kinds = [3, None, b"x", ["output"], {"a": 1}, float("nan"), torch.zeros(2)]
    entries = [{"filename": "x.png", "subfolder": kind, "type": "output"} for kind in kinds]
    entries += [{"filename": "x.png", "subfolder": "", "type": kind} for kind in kinds]
    entries += [{"filename": kind} for kind in (*kinds, "", ".", "..", "/", "a\nb")]
    return {"images": entries, "gifs": torch.zeros(3), "text": np.zeros(2)}


class Fails:
    """Fails at whatever is asked of it."""

    def get(self, *_):
        raise RuntimeError("nothing is to be had")

    __getitem__ = __str__ = __iter__ = items = values = get


class OddDict(Fails, dict):
    pass


class OddText(Fails, str):
    pass


def prints():
    sys.stdout.write("x" * 2**20 + "\n")
    for number in range(5000):
        sys.stdout.write(f"line {number}\n")
        sys.stdout.flush()
    sys.stderr.write("y" * 2**20 + "\n")
    logging.getLogger().warning("z" * 2**20)


def many_files():
    same = [file("one.png")] * 50_000
    return {"images": same + [file(f"{number}.png") for number in range(10_000)]}


def server():
    return PromptServer.instance


def forges_events():
    prompt_id, client_id = server().last_prompt_id, server().client_id
    data = ({}, None, {"node": None}, {"prompt_id": prompt_id, "node": None, "output": 3}, [1], "x")
    for event in ("executed", "execution_error", "executing", "progress", "nonsense", None, 7):
        for each in data:
            for to in (client_id, None, "stateless-x", 3):
                with contextlib.suppress(Exception):
                    server().send_sync(event, each, to)


def asks_the_api():
    url = f"http://127.0.0.1:{server().port}/api/stateless/ready"
    # Another act has set a proxy for all of the process.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=10) as answer:
        return {"text": [answer.read().decode()]}


def has_no_files_left():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    for descriptor in taken:
        os.close(descriptor)


def keeps_descriptors():
    subprocess.Popen(["sleep", "5"], close_fds=False)


def takes_classes_away():
    for name in [name for name in nodes.NODE_CLASS_MAPPINGS if name.startswith("Stateless")]:
        del nodes.NODE_CLASS_MAPPINGS[name]


def closes(where):
    """Close the descriptors of files whose path has ``where`` in it."""
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            if where in str(descriptor.readlink()):
                os.close(int(descriptor.name))


def hangs():
    """Wait in native code for good, after having seen to it that this is soon noticed."""
    for module in list(sys.modules.values()):
        if "HOPELESS_AFTER_S" in vars(module):
            module.STUCK_AFTER_S, module.HOPELESS_AFTER_S = 0.2, 1.0
    ctypes.CDLL(None).pause()


def tells():
    """Return what the process is like, for nodes that come later."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        "text": [
            f"{oct(mask)} {Path.cwd()} {tempfile.tempdir} {locale.setlocale(locale.LC_ALL)}",
            f"{gc.isenabled()} {sys.getrecursionlimit()} {sys.getswitchinterval()}",
            f"{socket.getdefaulttimeout()} {logging.root.manager.disable} {threading.stack_size()}",
            f"{asyncio.get_event_loop_policy()} {threading.gettrace()} {threading.getprofile()}",
            f"{sys.stdout} {sys.stderr} {sys.excepthook} {threading.excepthook}",
            f"{resource.getrlimit(resource.RLIMIT_NOFILE)}",
            f"{threading.Thread.start} {json.dumps} {json.loads} {torch.empty(0).dtype} {torch.empty(0).device}",
            f"{[each for each in warnings.filters if each[0] == 'error']}",
        ]
    }


def dies_in_a_thread():
    threading.Thread(target=raises, args=(SystemExit(3),), daemon=True).start()
    threading.Thread(target=raises, args=(Unspeakable(),), daemon=True).start()


ACTS = {
    "forks": forks,
    "changes_folder": changes_folder,
    "takes_stdout": takes_stdout,
    "loses_stdout": loses_stdout,
    "unspeakable": lambda: raises(Unspeakable()),
    "loud": lambda: raises(ValueError("x" * HUGE)),
    "recursion": lambda: raises(RecursionError("deep")),
    "generator": lambda: raises(GeneratorExit()),
    "cancelled": lambda: raises(__import__("asyncio").CancelledError()),
    "bare": lambda: raises(BaseException("bare")),
    "nested": lambda: raises(type('A\n"<b>' * 30, (Exception,), {})("a")),
    "up": lambda: reported(file("../../../etc/passwd"), file("passwd", "../../../../../../etc")),
    "absolute": lambda: reported(file(VICTIM), file("passwd", "/etc"), file("x", kind="/etc")),
    "nul": lambda: reported(file("a\0b.png"), file("x.png", "\0"), file("x" * 5000 + ".png")),
    "types": lambda: reported(
        file(3), file(None, None, None), {}, None, "x", 7, file(b"x.png"), [1]
    ),
    "wrong_ui": lambda: {"images": 3, "text": None, 5: [1], None: ["x"], "gifs": {"a": file("x")}},
    "huge_text": lambda: {"text": ["x" * HUGE]},
    "many_texts": lambda: {"text": ["x"] * 200_000},
    "half_text": lambda: {"text": ["half \ud83d", "\0", "a\r\n\r\ndata: x"]},
    "objects": lambda: {
        "text": [object(), {1, 2}, torch.zeros(3), float("nan"), b"x", Unspeakable()]
    },
    "cycle": cycle,
    "deep": deep,
    "holds_the_lock": holds_the_lock,
    "dies_in_a_thread": dies_in_a_thread,
    "numbers": numbers,
    "impatient": impatient,
    "strict": strict,
    "loses_temp": loses_temp,
    "proxies": proxies,
    "has_no_stack": has_no_stack,
    "makes_unreadable": makes_unreadable,
    "silences": silences,
    "keeps_the_lock": keeps_the_lock,
    "has_no_loop": has_no_loop,
    "closes_stdout": closes_stdout,
    "watches_threads": watches_threads,
    "has_no_hooks": has_no_hooks,
    "has_few_files": has_few_files,
    "keys": keys,
    "odd_entries": odd_entries,
    "odd_dict": lambda: {"images": [OddDict(filename="x.png")]},
    "odd_text": lambda: {"images": [{"filename": "x.png", "subfolder": OddText("a")}]},
    "prints": prints,
    "many_files": many_files,
    "half_error": lambda: raises(ValueError("half \ud83d, \0 and \r\n\r\ndata: x")),
    "no_memory": lambda: bytearray(2**50),
    "interrupts": lambda: nodes.interrupt_processing(True),
    "forges_events": forges_events,
    "asks_the_api": asks_the_api,
    "has_no_files_left": has_no_files_left,
    "keeps_descriptors": keeps_descriptors,
    "takes_classes_away": takes_classes_away,
    "counts_wrong": lambda: setattr(server(), "number", "x"),
    "knows_no_client": lambda: setattr(server(), "sockets_metadata", None),
    "sends_nothing": lambda: setattr(server(), "send_sync", None),
    "ends_nothing": lambda: setattr(server().prompt_queue, "task_done", None),
    "runs_nothing": lambda: server().prompt_queue.currently_running.clear(),
    "has_no_history": lambda: setattr(server().prompt_queue, "history", None),
    "fears_images": lambda: setattr(Image, "MAX_IMAGE_PIXELS", 1),
    "starts_no_thread": lambda: setattr(threading.Thread, "start", lambda _: None),
    "fails_to_start_threads": lambda: setattr(threading.Thread, "start", raises),
    "has_no_json": lambda: setattr(json, "dumps", raises) or setattr(json, "loads", raises),
    "writes_odd_json": lambda: setattr(json, "dumps", lambda *_, **__: "{"),
    "reads_odd_json": lambda: setattr(json, "loads", lambda *_, **__: {"prompt": 3}),
    "closes_the_journal": lambda: closes("/state/"),
    "closes_everything": lambda: os.closerange(3, 65536),
    "halves": lambda: torch.set_default_dtype(torch.float16),
    "moves_tensors": lambda: torch.set_default_device("meta"),
    "hangs": hangs,
    "tells": tells,
}


class Does:
    """Does one act, and shows what comes of it."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"act": (list(ACTS),)}}

    @classmethod
    def IS_CHANGED(cls, **_):
        return time.time()

    def run(self, act):
        return {"ui": ACTS[act]() or {"text": ["done"]}}


SAYS = {
    "much": lambda: "x" * HUGE,
    "nothing": lambda: "",
    "half a character": lambda: "half \ud83d, \0",
    "an object": object,
    "what cannot be said": Unspeakable,
    "that it fails": lambda: raises(ValueError("x" * HUGE)),
    "that it exits": lambda: raises(SystemExit(3)),
}


class Refuses:
    """Says of its input what its act says."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"act": ("STRING", {})}}

    @classmethod
    def VALIDATE_INPUTS(cls, act):
        return SAYS[act]()

    def run(self, act):
        return {}


NODE_CLASS_MAPPINGS = {
    "HostileRefuses": Refuses,
    "HostileDoes": Does,
    "HostileLeaves": Leaves,
    "HostileExpands": Expands,
    "HostileExits": Exits,
}
