"""One module per engine."""

from mindir_llm.tools.compare_peers.peers.base import Peer, Variant
from mindir_llm.tools.compare_peers.peers.ctranslate2 import CTranslate2
from mindir_llm.tools.compare_peers.peers.llama_cpp import LlamaCpp, LlamaCppFlash
from mindir_llm.tools.compare_peers.peers.onnxruntime_genai import OnnxRuntimeGenAI
from mindir_llm.tools.compare_peers.peers.openvino_genai import OpenVinoGenAI
from mindir_llm.tools.compare_peers.peers.ours import MindirLLM

__all__ = ["Peer", "Variant", "all_peers"]


def all_peers() -> list[Peer]:
    """Every engine of the comparison, ours first."""
    return [MindirLLM(), LlamaCpp(), LlamaCppFlash(), OnnxRuntimeGenAI(), OpenVinoGenAI(), CTranslate2()]
