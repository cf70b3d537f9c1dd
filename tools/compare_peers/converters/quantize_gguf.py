"""Quantize a GGUF file with llama.cpp's own quantizer, as its users do. Runs in llama.cpp's environment.

python quantize_gguf.py INPUT.gguf OUTPUT.gguf Q4_0|Q8_0 THREADS
"""

from __future__ import annotations

import sys

import llama_cpp

source, target, kind, threads = sys.argv[1:]
parameters = llama_cpp.llama_model_quantize_default_params()
parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
parameters.nthread = int(threads)
status = llama_cpp.llama_model_quantize(source.encode(), target.encode(), parameters)
if status:
    raise SystemExit(f"llama.cpp's quantizer failed with status {status}")
