"""Classes that are not there, in whose place others are put: by a pack, and by ComfyUI itself."""

from server import PromptServer


def replaced(class_type):
    """Return what replaces one class by another that says the same, in all of a prompt."""

    def apply(prompt):
        for node in prompt.values():
            if node["class_type"] == class_type:
                node["class_type"] = "TestSays"
                node["inputs"] = {"text": node["inputs"]["words"]}

    return apply


def on_prompt(data):
    """Do what packs do that a prompt passes through."""
    replaced("TestSpoke")(data["prompt"])
    return data


class Replacements:
    """Stands in for what ComfyUI has from 0.14 on; it asks each node for its ``_meta``."""

    def apply_replacements(self, prompt):
        for node in prompt.values():
            if node["class_type"] == "TestTold":
                assert node["_meta"]["title"]
        replaced("TestTold")(prompt)


PromptServer.instance.add_on_prompt_handler(on_prompt)
if not hasattr(PromptServer.instance, "node_replace_manager"):
    PromptServer.instance.node_replace_manager = Replacements()
else:
    from comfy_api.latest import io

    PromptServer.instance.node_replace_manager.register(
        io.NodeReplace(
            new_node_id="TestSays",
            old_node_id="TestTold",
            input_mapping=[{"new_id": "text", "old_id": "words"}],
        )
    )
