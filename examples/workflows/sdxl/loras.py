"""SDXL with any number of LoRAs: what takes code, since the graph's shape depends on the input."""

from typing import Any

from pydantic import BaseModel, Field

from comfyui_stateless.workflows import Checkpoint, Model, Sampler, Scheduler, Seed

summary = "SDXL: text to image with LoRAs"
description = "Loads each LoRA by its name or URL, one behind the other, and makes images with all."

BASE = (
    "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0"
    "/resolve/main/sd_xl_base_1.0.safetensors"
)


class Lora(BaseModel):
    """One LoRA, and how much of it."""

    model: Model["loras"] = Field(description="A name in the loras folder, or a URL.")
    strength: float = Field(1.0, ge=-5, le=5, description="0 is none of it.")


class RequestSchema(BaseModel):
    """The inputs of the endpoint."""

    prompt: str = Field(min_length=1, description="What the image shows.")
    negative_prompt: str = Field("text, watermark, blurry", description="What it must not show.")
    loras: list[Lora] = Field(default_factory=list, max_length=8, description="Applied in order.")
    width: int = Field(1024, ge=64, le=2048, multiple_of=8)
    height: int = Field(1024, ge=64, le=2048, multiple_of=8)
    steps: int = Field(25, ge=1, le=100)
    cfg: float = Field(7.0, ge=0, le=30)
    sampler: Sampler = "dpmpp_2m"
    scheduler: Scheduler = "karras"
    checkpoint: Checkpoint = BASE
    seed: Seed


def generate_workflow(input: RequestSchema) -> dict[str, Any]:
    """Return the graph: the LoRAs stand between the checkpoint and all that uses it."""
    graph = {"checkpoint": node("CheckpointLoaderSimple", ckpt_name=input.checkpoint)}
    last = "checkpoint"
    for index, lora in enumerate(input.loras):
        graph[f"lora {index}"] = node(
            "LoraLoader", model=[last, 0], clip=[last, 1], lora_name=lora.model,
            strength_model=lora.strength, strength_clip=lora.strength,
        )  # fmt: skip
        last = f"lora {index}"
    return {
        **graph,
        "positive": node("CLIPTextEncode", text=input.prompt, clip=[last, 1]),
        "negative": node("CLIPTextEncode", text=input.negative_prompt, clip=[last, 1]),
        "size": node("EmptyLatentImage", width=input.width, height=input.height, batch_size=1),
        "sampler": node(
            "KSampler", model=[last, 0], positive=["positive", 0], negative=["negative", 0],
            latent_image=["size", 0], seed=input.seed, steps=input.steps, cfg=input.cfg,
            sampler_name=input.sampler, scheduler=input.scheduler, denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="image"),
    }  # fmt: skip


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """Return a node of the graph."""
    return {"class_type": class_type, "inputs": inputs}
