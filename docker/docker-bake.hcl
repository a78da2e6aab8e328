# docker buildx bake -f docker/docker-bake.hcl [all | runtime devel cpu comfyui-runtime …]
# Each variable can be set in the environment: COMFYUI_VERSION=0.3.76 docker buildx bake …

variable "IMAGE" {
  default = "comfyui-stateless"
}

variable "COMFYUI_VERSION" {
  default = "0.3.75"
}

variable "API_VERSION" {
  default = "0.1.0"
}

variable "TORCH_VERSION" {
  default = "2.9.1"
}

variable "TORCHVISION_VERSION" {
  default = "0.24.1"
}

variable "TORCHAUDIO_VERSION" {
  default = "2.9.1"
}

# The CUDA that torch is built for, as in the tag; the same in the name of torch's index; and the
# release of NVIDIA's images.
variable "CUDA_VERSION" {
  default = "12.8"
}

variable "CUDA_INDEX" {
  default = "cu128"
}

variable "CUDA_IMAGE_VERSION" {
  default = "12.8.1"
}

variable "WITH_NODE" {
  default = "false"
}

group "default" {
  targets = ["runtime"]
}

group "all" {
  targets = ["runtime", "devel", "cpu", "comfyui-runtime", "comfyui-devel", "comfyui-cpu"]
}

target "_common" {
  context    = "."
  dockerfile = "docker/Dockerfile"
  target     = "api"
  platforms  = ["linux/amd64"]
  args = {
    COMFYUI_VERSION     = "${COMFYUI_VERSION}"
    TORCH_VERSION       = "${TORCH_VERSION}"
    TORCHVISION_VERSION = "${TORCHVISION_VERSION}"
    TORCHAUDIO_VERSION  = "${TORCHAUDIO_VERSION}"
    WITH_NODE           = "${WITH_NODE}"
  }
}

target "runtime" {
  inherits = ["_common"]
  args = {
    BASE_IMAGE  = "nvidia/cuda:${CUDA_IMAGE_VERSION}-base-ubuntu24.04"
    TORCH_INDEX = "https://download.pytorch.org/whl/${CUDA_INDEX}"
  }
  tags = ["${IMAGE}:comfy${COMFYUI_VERSION}-api${API_VERSION}-torch${TORCH_VERSION}-cuda${CUDA_VERSION}-runtime"]
}

target "devel" {
  inherits = ["_common"]
  args = {
    BASE_IMAGE     = "nvidia/cuda:${CUDA_IMAGE_VERSION}-cudnn-devel-ubuntu24.04"
    EXTRA_PACKAGES = "build-essential ninja-build python3-dev"
    TORCH_INDEX    = "https://download.pytorch.org/whl/${CUDA_INDEX}"
  }
  tags = ["${IMAGE}:comfy${COMFYUI_VERSION}-api${API_VERSION}-torch${TORCH_VERSION}-cuda${CUDA_VERSION}-devel"]
}

target "cpu" {
  inherits = ["_common"]
  args = {
    BASE_IMAGE  = "ubuntu:24.04"
    TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
  }
  tags = ["${IMAGE}:comfy${COMFYUI_VERSION}-api${API_VERSION}-torch${TORCH_VERSION}-cpu"]
}

# A tag without "api" is ComfyUI alone.
target "comfyui-runtime" {
  inherits = ["runtime"]
  target   = "comfyui"
  tags     = ["${IMAGE}:comfy${COMFYUI_VERSION}-torch${TORCH_VERSION}-cuda${CUDA_VERSION}-runtime"]
}

target "comfyui-devel" {
  inherits = ["devel"]
  target   = "comfyui"
  tags     = ["${IMAGE}:comfy${COMFYUI_VERSION}-torch${TORCH_VERSION}-cuda${CUDA_VERSION}-devel"]
}

target "comfyui-cpu" {
  inherits = ["cpu"]
  target   = "comfyui"
  tags     = ["${IMAGE}:comfy${COMFYUI_VERSION}-torch${TORCH_VERSION}-cpu"]
}
