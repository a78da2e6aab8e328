"""Routes that let the tests look at the host's modules inside ComfyUI's process."""

import asyncio
import importlib.util
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import folder_paths
import nodes
from aiohttp import web
from server import PromptServer

PACKAGE = Path(__file__).resolve().parents[3] / "comfyui_stateless"
NAME = "stateless_under_test"


def module(name):
    """Return a module of the package, in a copy of its own that no plugin has touched."""
    if NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            NAME, PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)]
        )
        sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[NAME])
    return importlib.import_module(f"{NAME}.{name}")


def shown(slot):
    values = {k: sorted(v) if isinstance(v, frozenset) else v for k, v in asdict(slot).items()}
    return {"kind": type(slot).__name__, **values}


@PromptServer.instance.routes.get("/test-host/inputs")
async def inputs(_):
    """Return what the catalog knows of the inputs of all classes."""
    catalog = module("host.catalog").Catalog()
    await catalog.learn_inputs()
    found = {name: catalog.file_inputs(name) for name in nodes.NODE_CLASS_MAPPINGS}
    return web.json_response(
        {
            name: {key: shown(slot) for key, slot in slots.items()}
            for name, slots in found.items()
            if slots
        }
    )


@PromptServer.instance.routes.get("/test-host/late")
async def late(_):
    """Register a class after the catalog has learned; then put another in its place."""
    catalog = module("host.catalog").Catalog()
    await catalog.learn_inputs()
    mappings, found = nodes.NODE_CLASS_MAPPINGS, []
    for folder in ("loras", "vae"):

        class Late:
            @classmethod
            def INPUT_TYPES(cls, folder=folder):
                return {"required": {"name": (folder_paths.get_filename_list(folder),)}}

        mappings["TestLate"] = Late
        await catalog.learn_inputs()
        found.append(catalog.file_inputs("TestLate")["name"].folders[0])
    del mappings["TestLate"]
    return web.json_response([*found, len(catalog.file_inputs("TestLate"))])


@PromptServer.instance.routes.get("/test-host/meanwhile")
async def meanwhile(_):
    """Return what others list while a thread is shown made-up files, and what stays of them."""
    probe = module("host.probe").Probe()
    entered, leave, inside = threading.Event(), threading.Event(), []

    def look():
        with probe.shown():
            inside.extend(folder_paths.get_filename_list("loras"))
            entered.set()
            leave.wait(10)

    before = vars(folder_paths).copy(), vars(folder_paths.cache_helper).copy()
    with folder_paths.cache_helper:
        watching = asyncio.get_running_loop().run_in_executor(None, look)
        await asyncio.to_thread(entered.wait, 10)
        outside = folder_paths.get_filename_list("loras")
        roots = folder_paths.get_folder_paths("loras")
        leave.set()
        await watching
        cached = str(folder_paths.cache_helper.cache)
    after = vars(folder_paths), vars(folder_paths.cache_helper)
    return web.json_response(
        {
            "inside": inside,
            "outside": outside,
            "roots": roots,
            "cached": cached + str(folder_paths.filename_list_cache),
            "restored": all(after[0][key] is value for key, value in before[0].items())
            and after[1].keys() == before[1].keys(),
        }
    )


@PromptServer.instance.routes.post("/test-host/link")
async def link(request):
    """Link a file into a model folder."""
    given = await request.json()
    models = module("host.models").ModelFolders(Path(given.pop("cache")))
    target = Path(given.pop("target"))
    try:
        linked = await asyncio.to_thread(models.link, target=target, **given)
    except Exception as error:  # noqa: BLE001  the tests want to see any
        return web.json_response({"error": str(error)}, status=400)
    return web.json_response({"name": linked.name, "path": str(linked.path)})
