"""Every version that the comparison installs, in one place."""

from mindir_llm.tools.compare_peers.site import Environment

__all__ = [
    "CONVERT_LLAMA_CPP",
    "CONVERT_OPENVINO",
    "CONVERT_TORCH",
    "CTRANSLATE2",
    "LLAMA_CPP",
    "ONNXRUNTIME_GENAI",
    "OPENVINO_GENAI",
]

# Built here: a wheel that pip kept from an earlier build may come from another compiler.
LLAMA_CPP = Environment(
    "llama_cpp", ("llama-cpp-python==0.3.36", "numpy==2.4.6"), options=("--no-cache-dir",)
)
ONNXRUNTIME_GENAI = Environment(
    "onnxruntime_genai", ("onnxruntime-genai==0.18.0", "onnxruntime==1.31.1", "numpy==2.4.6")
)
OPENVINO_GENAI = Environment(
    "openvino",
    ("openvino-genai==2026.4.1.0", "openvino==2026.4.1", "openvino-tokenizers==2026.4.1.0", "numpy==2.4.6"),
)
CTRANSLATE2 = Environment("ctranslate2", ("ctranslate2==4.8.5", "numpy==2.4.6"))

CONVERT_LLAMA_CPP = Environment("convert-llama_cpp", ("gguf==0.19.0", "numpy==2.4.6"))
CONVERT_TORCH = Environment(
    "convert-torch",
    (
        "torch==2.13.0",
        "transformers==5.23.0",
        "safetensors==0.8.0",
        "ctranslate2==4.8.5",
        "onnxruntime-genai==0.18.0",
        "onnxruntime==1.31.1",
        "onnx==1.23.2",
        "onnx-ir==1.1.0",
        "numpy==2.4.6",
    ),
)
# optimum-intel asks for torchvision, which does not load beside a CPU build of torch and is not needed here.
CONVERT_OPENVINO = Environment(
    "convert-openvino",
    (
        "torch==2.13.0",
        "transformers==5.5.4",
        "optimum-intel==2.2.0",
        "nncf==3.4.0",
        "openvino==2026.4.1",
        "openvino-tokenizers==2026.4.1.0",
        "numpy==2.4.6",
    ),
    remove=("torchvision",),
)
