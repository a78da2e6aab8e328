"""Sorts files into folders by their date, and registers a model folder that has no extensions."""

import folder_paths

get_save_image_path = folder_paths.get_save_image_path
DATE = "2026-11-25"


def dated(filename_prefix, output_dir, image_width=0, image_height=0):
    return get_save_image_path(f"{DATE}/{filename_prefix}", output_dir, image_width, image_height)


folder_paths.get_save_image_path = dated
folder_paths.folder_names_and_paths["of a pack, and broken"] = ([],)
NODE_CLASS_MAPPINGS = {}
