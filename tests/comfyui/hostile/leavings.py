"""What a node may leave in ComfyUI's output folder, reported or not."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import folder_paths
from comfy_execution.graph_utils import GraphBuilder
from PIL import Image
from server import PromptServer

MANY = 300


def output(name=""):
    return Path(folder_paths.get_output_directory(), name)


def picture(name):
    output(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(output(name), "PNG")
    return output(name)


def reported(*names):
    entries = [
        {"filename": Path(name).name, "subfolder": str(Path(name).parent), "type": "output"}
        for name in names
    ]
    return {"images": entries}


def link(target, name):
    output(name).symlink_to(target)


def listens(name):
    before = Path.cwd()
    os.chdir(output())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)  # short: the path of a socket may have 108 bytes
    os.chdir(before)


def device(name):
    try:
        os.mknod(output(name), stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:  # only root may
        os.mkfifo(output(name))


def closed_folder():
    picture("closed/deep/a.png")
    output("closed/deep").chmod(0)
    output("closed").chmod(0)


def links_to_its_own():
    picture("real.png")
    link("real.png", "other.png")
    return reported("other.png")


def links_round():
    picture("round.png")
    link(".", "circle")
    return reported("circle/circle/round.png")


def links_hard():
    os.link(folder_paths.__file__, output("hard.py"))


MAKES = {
    "a link out": lambda name: link("/etc/passwd", name),
    "a link to itself": lambda name: link(name, name),
    "a link to nothing": lambda name: link("nothing", name),
    "a link to a folder": lambda name: link("/etc", name),
    "a link to endless bytes": lambda name: link("/dev/zero", name),
    "a link to the environment": lambda name: link("/proc/self/environ", name),
    "a pipe": lambda name: os.mkfifo(output(name)),
    "a socket": listens,
    "a device": device,
    "a folder": lambda name: output(name).mkdir(exist_ok=True),
}

LEAVES = {
    "a file": lambda: picture("silent.png") and None,
    "files in folders": lambda: picture("of/mine/silent.png") and None,
    "a closed folder": closed_folder,
    "a hard link": links_hard,
    "many files": lambda: [output(f"many-{n}.txt").touch() for n in range(MANY)] and None,
    "a way round": lambda: reported("../../../etc/passwd", "/etc/passwd"),
    "a folder's file": lambda: link("/etc", "away") or reported("away/passwd"),
}


def stays():
    """Leave what not even root can delete at first."""
    subprocess.run(["chattr", "+i", picture("stuck/stays.png")], check=True)
    picture("goes.png")


def uploads():
    """Do what a page may do meanwhile: put a picture of its own into the folder."""
    port = PromptServer.instance.port
    parts = {"image": b'; filename="theirs.png"', "type": b""}
    bodies = {"image": picture("mine.png").read_bytes(), "type": b"output"}
    sent = b"".join(
        b'--edge\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        % (name.encode(), parts[name], bodies[name])
        for name in parts
    )
    # Another act has set a proxy for all of the process.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(
        urllib.request.Request(
            f"http://127.0.0.1:{port}/upload/image",
            data=sent + b"--edge--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=edge"},
        ),
        timeout=10,
    ).close()


OTHERS = {
    "an upload": uploads,
    "what stays": stays,
    "a pack's own file": lambda: picture(".thumbnails/of-a-pack.png") and None,
}

GIVES = {
    "a link to its own": links_to_its_own,
    "a way in a circle": links_round,
    "a file in a new folder": lambda: picture("new/one/a.png") and reported("new/one/a.png"),
    "a file nobody may read": lambda: picture("own.png").chmod(0) or reported("own.png"),
    "two lines": lambda: picture("a\nb.png") and reported("a\nb.png"),
    "half a character": lambda: (
        picture(b"\xff.png".decode("utf-8", "surrogateescape"))
        and reported(b"\xff.png".decode("utf-8", "surrogateescape"))
    ),
    "a long name": lambda: picture("x" * 251 + ".png") and reported("x" * 251 + ".png"),
    "one file often": lambda: picture("one.png") and reported(*["one.png", "./one.png"] * 500),
}


def empties():
    for path in output().iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


class Expands:
    """Makes savers at run time that are the same each time, and saves something itself."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        graph = GraphBuilder()
        image = graph.node("EmptyImage", width=8, height=8, batch_size=1, color=1).out(0)
        graph.node("SaveImage", images=image, filename_prefix="made")
        moving = {"filename_prefix": "moves", "fps": 6.0, "compress_level": 4}
        graph.node("SaveAnimatedPNG", images=image, **moving)
        return {"result": (), "expand": graph.finalize()}


class Exits:
    """Ends whoever asks what may be given to it."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        sys.exit("a package is missing")

    def run(self):
        return {}


class Leaves:
    """Leaves what its act says; keeps a folder that it made when it was made itself."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    def __init__(self):
        self.own = output("of a node/for good")
        self.own.mkdir(parents=True, exist_ok=True)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"act": ("STRING", {}), "reports": ("BOOLEAN", {"default": False})}}

    def run(self, act, reports):
        (self.own / "note.txt").write_text("kept")
        if act == "empties":
            empties()
            return {"ui": {}}
        if act in MAKES:
            name = f"{act}.png"
            MAKES[act](name)
            return {"ui": reported(name) if reports else {}}
        return {"ui": (LEAVES | OTHERS | GIVES)[act]() or {}}
