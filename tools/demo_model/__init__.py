"""Makes the demo model: a small Llama that tells little stories, trained from nothing on text of our own.

python -m mindir_llm.tools.demo_model OUTDIR
"""
