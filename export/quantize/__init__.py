"""Quantizers: pure numpy, a float matrix in, integers and scales out."""
