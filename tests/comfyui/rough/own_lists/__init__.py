"""Lists model folders in a way of its own; a class of it asks ComfyUI where they are, by keyword."""

import hashlib
from pathlib import Path

import folder_paths


def get_filename_list(folder_name):
    roots, extensions = folder_paths.folder_names_and_paths[folder_paths.map_legacy(folder_name)]
    files = (path for root in roots for path in Path(root).glob("*"))
    return sorted(path.name for path in files if not extensions or path.suffix in extensions)


folder_paths.get_filename_list = get_filename_list


def shown(folder, name):
    content = Path(folder_paths.get_full_path(folder, name)).read_bytes()
    return {"ui": {"text": [hashlib.sha256(content).hexdigest()]}}


class ReadsVae:
    """Shows the digest of a model that it finds on the disk."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        roots = folder_paths.get_folder_paths(folder_name="vae")
        found = [path.name for root in roots for path in Path(root).glob("*.safetensors")]
        return {"required": {"vae": (sorted(found),)}}

    def run(self, vae):
        return shown("vae", vae)


class ReadsLora:
    """Shows the digest of a model that it finds in the list that everybody uses."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"lora": (folder_paths.get_filename_list("loras"),)}}

    def run(self, lora):
        return shown("loras", lora)


NODE_CLASS_MAPPINGS = {"RoughReadsVae": ReadsVae, "RoughReadsLora": ReadsLora}
