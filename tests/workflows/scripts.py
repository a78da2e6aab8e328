"""Workflow files in JavaScript and TypeScript, in the style of comfyui-api's own, for the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyui_stateless.workflows.base import Surroundings
from comfyui_stateless.workflows.node_packages import are_in

PACKAGES = Path(__file__).parents[2] / ".comfyui" / "workflow-packages"

SURROUNDINGS = Surroundings(
    samplers=["euler", "heun"],
    schedulers=["normal", "karras"],
    models={"checkpoints": ["dream.safetensors", "photo.safetensors"], "loras": []},
    warmup_checkpoint="photo.safetensors",
)

TYPESCRIPT = """\
import { z } from "zod";
import { ComfyPrompt, Workflow } from "../types";
import config from "../config";

enum Size { Small = 256, Large = 2048 }

const RequestSchema = z.object({
  prompt: z.string().describe("What the image shows"),
  width: z.number().int().min(Size.Small).max(Size.Large).optional().default(512),
  seed: z.number().int().optional().default(() => Math.floor(Math.random() * 1e12)),
  sampler: config.samplers.optional().default("euler"),
  scheduler: config.schedulers.optional().default("karras"),
  checkpoint: z
    .string()
    .refine((name) => config.models.checkpoints.all.includes(name), "There is no such checkpoint")
    .optional()
    .default(config.warmupCkpt || config.models.checkpoints.all[0]),
});
type Input = z.infer<typeof RequestSchema>;

function generateWorkflow(input: Input): ComfyPrompt {
  return {
    "1": { inputs: { ckpt_name: input.checkpoint }, class_type: "CheckpointLoaderSimple" },
    "2": {
      inputs: { seed: input.seed, sampler_name: input.sampler, text: input.prompt, model: ["1", 0] },
      class_type: "KSampler",
    },
  };
}

const workflow: Workflow = {
  RequestSchema,
  generateWorkflow,
  summary: "Text to image",
  description: "Makes an image of a text",
};

export default workflow;
"""


def script(
    schema: str = "text: z.string()", body: str = "return graph(input.text);", top: str = ""
) -> str:
    """Return a file: the fields of its schema, the body of generateWorkflow, what comes before."""
    return f"""\
import {{ z }} from "zod";
{top}
const graph = (value) => ({{ "1": {{ inputs: {{ value }}, class_type: "Note" }} }});
export default {{
  RequestSchema: z.object({{ {schema} }}),
  async generateWorkflow(input) {{ {body} }},
}};
"""


def packages() -> Path:
    """Return where zod is; without it the tests cannot run, and say so."""
    if not are_in(PACKAGES):
        pytest.fail("zod is not there: `python3 docker/comfyui.py prepare --dev` gets it with npm")
    return PACKAGES
